import type { Caller } from '../acceptance/caller.ts';
import type { Database } from '../database/database.ts';
import type { HostInStep } from '../host-agent/connection.ts';
import type { Kind } from '../model/kind.ts';
import type { Standing, Timetable } from '../model/platform/timetable.ts';
import type { Log } from '../runtime/log.ts';
import type { Northbound } from './network/northbound.ts';
import type { Southbound } from './platform/southbound.ts';

/** Temporal's own schedules; all of it may be asked for twice. */
export interface TemporalSchedules {
  /** With `keepsPause` one that is there stays paused, or not, as it is. */
  ensure(timetable: Timetable, options?: { keepsPause?: boolean }): Promise<void>;
  ensureAbsent(id: string): Promise<void>;
  /** Null where there is none. */
  standing(id: string): Promise<Standing | null>;
}

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
  temporalSchedules: TemporalSchedules;
  /**
   * Ids of what a filter finds for a caller, in one project or anywhere, the oldest first.
   *
   * @throws Problem where the filter is wrong, or too expensive
   */
  find(caller: Caller, kind: Kind, filter: string, projectId: string | null, most: number): Promise<string[]>;
}
