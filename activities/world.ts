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
  /**
   * The same for work that other hosts can do as well as the one at hand. Answers when nothing that an older try has sent to any of them can be
   * acted on any more: whoever goes around a host can not count on its refusal.
   */
  anyHost(hostId: string, atHand: string): Promise<HostInStep>;
  /** OVN's northbound database. */
  northbound: Northbound;
  /** OVN's southbound database, as the workers and the hosts reach it. */
  southbound: Southbound;
}
