/** The clock by which a host, real or simulated, judges whether a message has come in time. */
import type { Moment } from './stamp.ts';

export interface AgentClock {
  now(): Moment;
  /** Why a message that was to be acted on until then comes too late; null when it does not. */
  refusal(until: Moment): string | null;
  /** So long may it still be acted on. */
  leftMs(until: Moment): number;
}

/** `elapsed` counts milliseconds, also while the process is stopped, and is never set. */
export function agentClock(life: string, elapsed: () => number = () => performance.now()): AgentClock {
  const now = (): Moment => ({ life, ms: Math.floor(elapsed()) });
  const leftMs = (until: Moment): number => (until.life === life ? until.ms - now().ms : -1);
  return {
    now,
    leftMs,
    refusal(until) {
      if (until.life !== life) return 'this agent was started anew since whoever sent this message has heard of it';
      const left = leftMs(until);
      return left < 0 ? `this message has come ${-left} ms too late` : null;
    },
  };
}
