import type { AgentProblem } from '../../host-agent/problem.ts';
import { refuse } from './problem.ts';

/** A fault to inject. The oldest rule that fits a call decides; the others wait their turn. */
export interface Rule {
  /** A host's name, `ovn`, `s3`, or `*` (default). */
  host?: string;
  /** A call's or task's name, `ovn.transact` (or `ovn.transact <comment>`), `s3.PUT`…; `*` at the end matches a prefix. */
  call?: string;
  /** Texts of which the input holds one, such as the id of a resource. */
  about?: string[];
  /** Before or after the work was really done. */
  when: 'before' | 'after';
  /** `drop` cuts the connection without an answer. */
  action: 'fail' | 'hang' | 'delay' | 'drop';
  /** For `fail`; BACKEND_UNAVAILABLE, retryable, when absent. */
  problem?: AgentProblem;
  delayMs?: number;
  /** How often it strikes; for ever when absent. */
  times?: number;
}

export interface Rules {
  add(rule: Rule): string;
  remove(id: string): void;
  clear(): void;
  list(): (Rule & { id: string; used: number })[];
  /** `*` sets the latency of all calls that have none of their own. */
  setLatency(call: string, ms: number): void;
}

/** What a matching rule does to the call at hand. `drop` is left to the caller, who owns the connection. */
export type Verdict = 'pass' | 'drop';

export interface Faults extends Rules {
  /**
   * Waits the call's latency (before only) and applies the first rule that fits.
   * Answers undefined at once, without a promise, when there is nothing to wait for.
   * `gone` makes the signal that ends a hang when the client has left. Throws the rule's problem for `fail`.
   */
  strike(
    host: string,
    calls: string[],
    when: Rule['when'],
    gone?: () => AbortSignal,
    input?: unknown,
  ): Promise<Verdict> | undefined;
}

interface LiveRule extends Rule {
  id: string;
  used: number;
  released: AbortController;
}

export function createFaults(latencyMs: number, callLatencyMs: Record<string, number> = {}): Faults {
  let defaultLatencyMs = latencyMs;
  const latencies = new Map(Object.entries(callLatencyMs));
  const rules = new Map<string, LiveRule>();
  let lastId = 0;

  const fits = (rule: LiveRule, host: string, calls: string[], when: Rule['when'], input: unknown): boolean => {
    if (rule.about && !rule.about.some((text) => JSON.stringify(input ?? null).includes(text))) return false;
    if (rule.when !== when || (rule.times !== undefined && rule.used >= rule.times)) return false;
    if (rule.host !== undefined && rule.host !== '*' && rule.host !== host) return false;
    const wanted = rule.call ?? '*';
    return wanted.endsWith('*')
      ? calls.some((call) => call.startsWith(wanted.slice(0, -1)))
      : calls.some((call) => call === wanted);
  };

  async function apply(rule: LiveRule, gone: AbortSignal | undefined): Promise<Verdict> {
    switch (rule.action) {
      case 'fail':
        throw refuse(
          rule.problem?.code ?? 'BACKEND_UNAVAILABLE',
          rule.problem?.message ?? 'A fault was injected',
          rule.problem?.retryable ?? true,
        );
      case 'delay':
        await pause(rule.delayMs ?? 0, gone);
        return 'pass';
      case 'hang':
        await aborted(rule.released.signal, gone);
        return gone?.aborted ? 'drop' : 'pass';
      case 'drop':
        return 'drop';
    }
  }

  return {
    add(rule) {
      const id = String(++lastId);
      rules.set(id, { ...rule, id, used: 0, released: new AbortController() });
      return id;
    },
    remove(id) {
      rules.get(id)?.released.abort();
      rules.delete(id);
    },
    clear() {
      for (const rule of rules.values()) rule.released.abort();
      rules.clear();
    },
    list: () => [...rules.values()].map(({ released: _released, ...rule }) => rule),
    setLatency(call, ms) {
      if (call === '*') defaultLatencyMs = ms;
      else latencies.set(call, ms);
    },
    strike(host, calls, when, gone, input) {
      const waitMs = when === 'before' ? (latencies.get(calls[0] ?? '') ?? defaultLatencyMs) : 0;
      let struck: LiveRule | undefined;
      if (rules.size > 0) {
        for (const rule of rules.values()) {
          if (!fits(rule, host, calls, when, input)) continue;
          rule.used += 1;
          struck = rule;
          break;
        }
      }
      if (!struck) return waitMs > 0 ? pause(waitMs).then(() => 'pass') : undefined;
      const rule = struck;
      const signal = gone?.();
      return waitMs > 0 ? pause(waitMs, signal).then(() => apply(rule, signal)) : apply(rule, signal);
    },
  };
}

/** Ends early, without an error, when the signal fires. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener('abort', done);
  });
}

function aborted(...signals: (AbortSignal | undefined)[]): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      for (const signal of signals) signal?.removeEventListener('abort', done);
      resolve();
    };
    for (const signal of signals) {
      if (signal?.aborted) return done();
      signal?.addEventListener('abort', done);
    }
  });
}
