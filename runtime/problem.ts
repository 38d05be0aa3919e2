/** The product's error codes with their HTTP status (RFC 9457 `type` is `/problems/<code>`). One table; every code has a test. */
export const problemStatus = {
  INVALID_ARGUMENT: 422,
  MALFORMED_REQUEST: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  PAYLOAD_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  NAME_IN_USE: 409,
  ADDRESS_IN_USE: 409,
  ALREADY_ATTACHED: 409,
  INVALID_STATE: 409,
  RESOURCE_BUSY: 409,
  RESOURCE_FAULTED: 409,
  HAS_DEPENDENTS: 409,
  PROTECTED: 409,
  MANAGED: 409,
  CANCEL_TOO_LATE: 409,
  REVISION_MISMATCH: 412,
  PRECONDITION_FAILED: 412,
  SUPERSEDED: 409,
  IDEMPOTENCY_MISMATCH: 422,
  QUOTA_EXCEEDED: 403,
  ACCOUNT_SUSPENDED: 403,
  NO_CAPACITY: 409,
  ADDRESS_EXHAUSTED: 409,
  NOT_SUPPORTED: 409,
  RATE_LIMITED: 429,
  TOO_MANY_OPEN: 429,
  TOO_SLOW: 408,
  QUERY_TOO_EXPENSIVE: 422,
  HOST_UNREACHABLE: 503,
  HOST_FENCED: 503,
  BACKEND_UNAVAILABLE: 503,
  TIMEOUT: 504,
  CANCELLED: 409,
  PARTLY_FAILED: 409,
  INTERNAL: 500,
} as const;

export type ProblemCode = keyof typeof problemStatus;

export interface Violation {
  field: string;
  message: string;
  /** 0-based column in the value, for filters. */
  position?: number;
}

export interface ProblemDetails {
  resource?: { kind: string; id: string };
  blockers?: { kind: string; id: string; name?: string }[];
  violations?: Violation[];
  retryAfterSeconds?: number;
  operationId?: string;
  [extra: string]: unknown;
}

/** What went wrong, for the person or program that asked: what was wanted, what was found, what to do. Never a stack trace. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly details: ProblemDetails;

  constructor(code: ProblemCode, message: string, details: ProblemDetails = {}) {
    super(message);
    this.name = 'Problem';
    this.code = code;
    this.details = details;
  }
  get status(): number {
    return problemStatus[this.code];
  }
}

export const isProblemCode = (code: unknown): code is ProblemCode => typeof code === 'string' && code in problemStatus;
