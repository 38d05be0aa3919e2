import type { Database } from '../database/database.ts';
import type { HostInStep } from '../host-agent/connection.ts';
import type { Log } from '../runtime/log.ts';
import type { Northbound } from './network/northbound.ts';
import type { Southbound } from './platform/southbound.ts';

/** What steps act on. Passed to each area when a worker starts; nothing in it is state that matters. */
export interface World {
  database: Database;
  log: Log;
  /**
   * A host, on behalf of the try of the step that asks for it: the host refuses it once a newer one has spoken. Throws HOST_UNREACHABLE.
   * Only for steps on the queue of a host, because only they run under a lease.
   */
  host(hostId: string): Promise<HostInStep>;
  /** OVN's northbound database. */
  northbound: Northbound;
  /** OVN's southbound database, as the workers and the hosts reach it. */
  southbound: Southbound;
}
