import { AsyncLocalStorage } from 'node:async_hooks';

/** Until when something may be begun. */
export interface Deadline {
  /** @throws Problem SUPERSEDED when it is over. */
  refuseLate(): void;
  leftMs(): number;
}

/** Of the call that is carried out right now. What waits in line for its sake asks again when its turn comes. */
export const acting = new AsyncLocalStorage<Deadline>();
