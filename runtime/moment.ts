/**
 * How long ago something was, for whoever must not take it for less. Of the clocks of a machine one may be set back, and the other one stands while the
 * machine sleeps.
 */
export interface Moment {
  /** By the clock on the wall. */
  wallMs: number;
  /** By the clock that nobody sets. */
  steadyMs: number;
}

export const momentNow = (): Moment => ({ wallMs: Date.now(), steadyMs: performance.now() });

/** By the clock that has gone further. */
export const passedMs = (since: Moment, until: Moment = momentNow()): number =>
  Math.max(until.wallMs - since.wallMs, until.steadyMs - since.steadyMs);
