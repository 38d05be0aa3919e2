import type { Database } from '../database/database.ts';
import type { HostConnection } from '../host-agent/connection.ts';
import type { Log } from '../runtime/log.ts';
import type { Northbound } from './network/northbound.ts';

/** What steps act on. Passed to each area when a worker starts; nothing in it is state that matters. */
export interface World {
  database: Database;
  log: Log;
  /** The kept connection to a host; throws HOST_UNREACHABLE. */
  host(hostId: string): Promise<HostConnection>;
  /** OVN's northbound database. */
  northbound: Northbound;
}
