/** Codes of the product's error table that a host may answer, with their HTTP status. */
export const AGENT_PROBLEM_STATUS = {
  INVALID_ARGUMENT: 422,
  NOT_FOUND: 404,
  NAME_IN_USE: 409,
  NO_CAPACITY: 409,
  INVALID_STATE: 409,
  NOT_SUPPORTED: 409,
  PRECONDITION_FAILED: 412,
  SUPERSEDED: 409,
  BACKEND_UNAVAILABLE: 503,
  TIMEOUT: 504,
  INTERNAL: 500,
} as const;

/** `retryable` false means that trying again can not help. */
export interface AgentProblem {
  code: keyof typeof AGENT_PROBLEM_STATUS;
  message: string;
  retryable: boolean;
}

/** A failure that the caller of a host is told of. Everything else that a host throws becomes INTERNAL. */
export class Problem extends Error {
  readonly code: AgentProblem['code'];
  readonly retryable: boolean;

  constructor(code: AgentProblem['code'], message: string, retryable = false) {
    super(message);
    this.name = 'Problem';
    this.code = code;
    this.retryable = retryable;
  }
}
