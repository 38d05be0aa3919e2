import type { Timetable } from './timetable.ts';

/**
 * What the platform does of its own accord again and again. Each is a Temporal Schedule that runs the workflow of its name in
 * `workflows/maintenance/`; the dispatcher brings Temporal in line with this table when it starts.
 */
export interface Maintenance {
  summary: string;
  everySeconds: number;
  /** Whether a run that is due while the one before it still runs is left out, or waits for its end. */
  overlap: 'skip' | 'queue';
  /** A run whose time passed while Temporal was away is made up for if that is no longer ago. */
  catchupSeconds: number;
}

const minute = 60;

export const maintenance = {
  endRecoveryWindows: {
    summary: 'Frees destroyed instances and volumes that can not be recovered any more',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  deleteExpired: {
    summary: 'Deletes snapshots past their end, and announced images whose bytes did not come in time',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  restartLost: {
    summary: 'Starts instances of hosts that have failed as soon as there is room for them',
    everySeconds: 15,
    overlap: 'skip',
    catchupSeconds: 15,
  },
  endAbandonedUploads: {
    summary: 'Throws away what uploads of dead servers left',
    everySeconds: 15,
    overlap: 'skip',
    catchupSeconds: 15,
  },
  releaseForgotten: {
    summary: 'Frees resources that are held by an operation that has ended',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  renewHostCertificates: {
    summary: 'Gives hosts their next certificate before theirs ends',
    everySeconds: 10 * minute,
    overlap: 'skip',
    catchupSeconds: 10 * minute,
  },
  scanHosts: {
    summary: 'Compares the guests of all hosts with the records',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  scanNetwork: {
    summary: 'Compares what OVN has with the records',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  scanPools: {
    summary: 'Compares what lies in storage pools with the records',
    everySeconds: 5 * minute,
    overlap: 'skip',
    catchupSeconds: 5 * minute,
  },
  scanRisks: {
    summary:
      'Looks for what may go wrong: operations that are stuck, pools that are nearly full, certificates that end',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  watchPower: {
    summary: 'Asks the BMCs of hosts whether they are on',
    everySeconds: minute,
    overlap: 'skip',
    catchupSeconds: minute,
  },
  rotateCredentials: {
    summary: 'Changes the SSH keys of hosts and the passwords of their BMCs, where a setting says how often',
    everySeconds: 60 * minute,
    overlap: 'skip',
    catchupSeconds: 60 * minute,
  },
  cleanCaches: {
    summary: 'Removes copies of images in pools that nothing has lived on for a day',
    everySeconds: 60 * minute,
    overlap: 'skip',
    catchupSeconds: 60 * minute,
  },
  reportCapacity: {
    summary: 'Tells for each zone what it has, what of that is promised, and how long the rest will last',
    everySeconds: 24 * 60 * minute,
    overlap: 'skip',
    catchupSeconds: 60 * minute,
  },
  archiveOld: {
    summary: 'Moves old operations, events and audit entries to a backup store',
    everySeconds: 10 * minute,
    overlap: 'skip',
    catchupSeconds: 10 * minute,
  },
  alignSchedules: {
    summary: "Makes Temporal's schedules anew where it has lost them, and notes when the next runs are",
    everySeconds: 5 * minute,
    overlap: 'skip',
    catchupSeconds: 5 * minute,
  },
  forgetOldAnswers: {
    summary: 'Forgets old answers to Idempotency-Keys',
    everySeconds: 5 * minute,
    overlap: 'skip',
    catchupSeconds: 5 * minute,
  },
  forgetTombstones: {
    summary: 'Forgets resources that were deleted, and findings that were over, long ago',
    everySeconds: 5 * minute,
    overlap: 'skip',
    catchupSeconds: 5 * minute,
  },
} as const satisfies Record<string, Maintenance>;

export type MaintenanceName = keyof typeof maintenance;

export const maintenanceNames = Object.keys(maintenance) as MaintenanceName[];

export const maintenancePrefix = 'maintenance-';

/** Of the Temporal Schedule. */
export const maintenanceId = (name: string): string => `${maintenancePrefix}${name}`;

export function maintenanceTimetable(name: MaintenanceName): Timetable {
  const { everySeconds, overlap, catchupSeconds } = maintenance[name];
  return {
    id: maintenanceId(name),
    workflow: name,
    args: [],
    title: name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
    projectId: null,
    everySeconds,
    overlap,
    catchupSeconds,
    paused: false,
  };
}

/** How the platform's own stand among the schedules; what `managedBy` says of them. */
export const maintenanceAction = (name: string): string => `maintenance.${name}`;
