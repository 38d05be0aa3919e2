import type { AgentProblem } from '../../host-agent/protocol.ts';

/** What a simulated host throws instead of an answer; `problem` goes over the wire as it is. */
export class ProblemError extends Error {
  readonly problem: AgentProblem;
  constructor(problem: AgentProblem) {
    super(problem.message);
    this.problem = problem;
  }
}

export function refuse(code: AgentProblem['code'], message: string, retryable = false): ProblemError {
  return new ProblemError({ code, message, retryable });
}

export function problemOf(error: unknown): AgentProblem {
  if (error instanceof ProblemError) return error.problem;
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), retryable: false };
}
