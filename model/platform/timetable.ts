/** When and how Temporal runs the workflow of a schedule: what a Temporal Schedule is made from. */

/** Moments in the schedule's time zone at which all members match; one that is left out matches always. Sunday is 0, January is 1. */
export interface Calendar {
  second: number[];
  minute?: number[];
  hour?: number[];
  dayOfMonth?: number[];
  month?: number[];
  dayOfWeek?: number[];
  year?: number[];
}

export interface Timetable {
  /** Of the Temporal Schedule. */
  id: string;
  /** Of the workflow that it runs; it is told of nothing but these. */
  workflow: string;
  args: unknown[];
  /** What a person reads in Temporal's page. */
  title: string;
  projectId: string | null;
  everySeconds?: number;
  calendars?: Calendar[];
  timeZone?: string;
  /** The one moment of a schedule that has not run for it. Where Temporal is told of it too late, it runs at once. */
  at?: string;
  overlap: 'skip' | 'queue';
  catchupSeconds: number;
  paused: boolean;
}

/** Temporal knows no such times: asked again, it says the same. */
export class TimetableError extends Error {}

/** What Temporal says of a schedule. */
export interface Standing {
  paused: boolean;
  /** The next run, as all instants are told; null when there is none, or while it is paused. */
  nextRun: string | null;
}
