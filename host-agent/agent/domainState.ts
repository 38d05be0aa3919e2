import type { DomainState, DomainStatus } from '../protocol.ts';
import type { RawState } from './libvirt.ts';

/** libvirt's numbers in words (`virDomainState`, and one list of reasons for each state). */

const SHUTOFF_REASONS = [
  'unknown',
  'shutdown',
  'destroyed',
  'crashed',
  'migrated',
  'saved',
  'failed',
  'from snapshot',
  'daemon',
];
const PAUSED_REASONS = [
  'unknown',
  'user',
  'migration',
  'save',
  'dump',
  'ioerror',
  'watchdog',
  'from snapshot',
  'shutting down',
  'snapshot',
  'crashed',
  'starting up',
  'post-copy',
  'post-copy failed',
  'api error',
];
const RUNNING_REASONS = [
  'unknown',
  'booted',
  'migrated',
  'restored',
  'from snapshot',
  'unpaused',
  'migration cancelled',
  'save cancelled',
  'wakeup',
  'crashed',
  'post-copy',
  'post-copy failed',
];

const NOSTATE = 0;
const RUNNING = 1;
const BLOCKED = 2;
const PAUSED = 3;
const SHUTTING_DOWN = 4;
const SHUTOFF = 5;
const CRASHED = 6;
const SUSPENDED_BY_GUEST = 7;

const SHUTOFF_CRASHED = 3;

export function domainStatus({ state, reason }: RawState): DomainStatus {
  switch (state) {
    case RUNNING:
    case BLOCKED:
    case NOSTATE:
      return { state: 'running', reason: RUNNING_REASONS[reason] ?? 'unknown' };
    // Still running until its QEMU ends.
    case SHUTTING_DOWN:
      return { state: 'running', reason: 'shutdown' };
    case PAUSED:
    case SUSPENDED_BY_GUEST:
      return { state: 'paused', reason: state === PAUSED ? (PAUSED_REASONS[reason] ?? 'unknown') : 'guest' };
    case SHUTOFF:
      return { state: reason === SHUTOFF_CRASHED ? 'crashed' : 'off', reason: SHUTOFF_REASONS[reason] ?? 'unknown' };
    case CRASHED:
      return { state: 'crashed', reason: 'panicked' };
    default:
      return { state: 'off', reason: 'unknown' };
  }
}

export const isActive = (state: DomainState): boolean => state === 'running' || state === 'paused';

const EVENT_STARTED = 2;
const EVENT_SUSPENDED = 3;
const EVENT_RESUMED = 4;
const EVENT_STOPPED = 5;
const EVENT_CRASHED = 8;

const STARTED_DETAILS = ['booted', 'migrated', 'restored', 'from snapshot', 'wakeup'];
const SUSPENDED_DETAILS = [
  'user',
  'migration',
  'ioerror',
  'watchdog',
  'restored',
  'from snapshot',
  'api error',
  'post-copy',
  'post-copy failed',
];
const RESUMED_DETAILS = ['unpaused', 'migrated', 'from snapshot', 'post-copy', 'post-copy failed'];
const STOPPED_DETAILS = ['shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from snapshot'];

export type LifecycleChange = {
  type: 'domain.started' | 'domain.stopped' | 'domain.crashed' | 'domain.paused' | 'domain.resumed';
  reason: string;
};

/** What a `virDomainEventType` means to Belay; undefined for those that change nothing (defined, undefined, shutting down). */
export function lifecycleChange(event: number, detail: number): LifecycleChange | undefined {
  switch (event) {
    case EVENT_STARTED:
      return { type: 'domain.started', reason: STARTED_DETAILS[detail] ?? 'unknown' };
    case EVENT_SUSPENDED:
      return { type: 'domain.paused', reason: SUSPENDED_DETAILS[detail] ?? 'unknown' };
    case EVENT_RESUMED:
      return { type: 'domain.resumed', reason: RESUMED_DETAILS[detail] ?? 'unknown' };
    case EVENT_STOPPED: {
      const reason = STOPPED_DETAILS[detail] ?? 'unknown';
      // libvirt says "failed" when QEMU ended without a word, which is how it dies of a signal.
      return reason === 'crashed' || reason === 'failed'
        ? { type: 'domain.crashed', reason: 'crashed' }
        : { type: 'domain.stopped', reason };
    }
    case EVENT_CRASHED:
      return { type: 'domain.crashed', reason: 'panicked' };
    default:
      return undefined;
  }
}
