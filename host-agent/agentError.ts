import type { AgentProblem } from './problem.ts';

/** What a caller of a host gets instead of an answer. `retryable` false means that trying again can not help. */
export class AgentError extends Error {
  readonly code: AgentProblem['code'] | 'HOST_UNREACHABLE' | 'HOST_FENCED';
  readonly retryable: boolean;
  readonly host: string;

  constructor(code: AgentError['code'], message: string, retryable: boolean, host: string) {
    super(message);
    this.name = 'AgentError';
    this.code = code;
    this.retryable = retryable;
    this.host = host;
  }
}
