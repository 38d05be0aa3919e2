import { type AgentProblem, Problem } from '../../host-agent/problem.ts';

/** What a simulated host throws instead of an answer. */
export function refuse(code: AgentProblem['code'], message: string, retryable = false): Problem {
  return new Problem(code, message, retryable);
}

/** The same as it goes over the wire. */
export function problemOf(error: unknown): AgentProblem {
  if (error instanceof Problem) return { code: error.code, message: error.message, retryable: error.retryable };
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), retryable: false };
}
