/** The public API as demo, tests and benchmarks speak it: any route, any body, and what an operation came to. */

export interface ApiProblem {
  status: number;
  code: string;
  detail: string;
  violations?: { field: string; message: string; position?: number }[];
  [extra: string]: unknown;
}

export class ApiError extends Error {
  readonly problem: ApiProblem;
  readonly request: string;

  constructor(problem: ApiProblem, request: string) {
    super(`${request}: ${problem.detail} (${problem.code})`);
    this.name = 'ApiError';
    this.problem = problem;
    this.request = request;
  }
}

export type Resource = Record<string, unknown> & { id: string; name: string; state: string };

export interface OperationView {
  id: string;
  type: string;
  state: string;
  targetId: string;
  progress: number;
  steps: {
    index: number;
    name: string;
    state: string;
    attempts: number;
    startedAt: string;
    endedAt: string | null;
    error: { code: string; message: string } | null;
  }[];
  error: { code: string; message: string; step: string | null; [extra: string]: unknown } | null;
  result: unknown;
  cancelRequestedAt: string | null;
  createdAt: string;
  startedAt: string | null;
  endedAt: string | null;
  pointOfNoReturnPassed: boolean;
}

export type Body = string | Uint8Array | ReadableStream;

export interface Api {
  url: string;
  token: string;
  /** Answers the body; throws ApiError for anything but 2xx. */
  call<T = Resource>(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<T>;
  /** As `call`, but answers status, headers and body whatever they are. */
  raw(method: string, path: string, body?: Body | null, headers?: Record<string, string>): Promise<Response>;
  /** Waits until the operation has ended or is stuck; tells each change. */
  settled(
    operationId: string,
    onChange?: (operation: OperationView) => void,
    timeoutMs?: number,
  ): Promise<OperationView>;
  /** Asks for an operation and waits for its success; throws with its error otherwise. */
  done(
    method: string,
    path: string,
    body?: unknown,
    onChange?: (operation: OperationView) => void,
  ): Promise<OperationView>;
  /** The same API for another credential. */
  as(token: string): Api;
}

export function openApi(url: string, token: string): Api {
  const raw: Api['raw'] = (method, path, body, headers = {}) =>
    fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...headers },
      ...(body === undefined || body === null ? {} : { body }),
      ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
    } as RequestInit);
  const api: Api = {
    url,
    token,
    raw,
    async call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
      const response = await raw(method, path, body === undefined ? null : JSON.stringify(body), {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      });
      const text = await response.text();
      const parsed = text === '' ? undefined : (JSON.parse(text) as unknown);
      if (!response.ok) throw new ApiError(parsed as ApiProblem, `${method} ${path}`);
      return parsed as T;
    },
    async settled(operationId, onChange = () => {}, timeoutMs = 600_000) {
      let told = '';
      for (const until = Date.now() + timeoutMs; ; ) {
        const operation = await api.call<OperationView>(
          'GET',
          `/v1/operations/${operationId}?waitSeconds=${onChange.length > 0 ? 0 : 20}`,
        );
        const now = JSON.stringify([operation.state, operation.progress, operation.steps]);
        if (now !== told) onChange(operation);
        told = now;
        if (['succeeded', 'failed', 'cancelled', 'stuck'].includes(operation.state)) return operation;
        if (Date.now() > until)
          throw new Error(
            `operation ${operationId} (${operation.type}) is ${operation.state} after ${timeoutMs / 1000} s: ${now}`,
          );
        if (onChange.length > 0) await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    async done(method, path, body, onChange) {
      const accepted = await api.call<OperationView>(method, path, body);
      const ended = await api.settled(accepted.id, onChange);
      if (ended.state !== 'succeeded')
        throw new Error(
          `${ended.type} ${ended.state}: ${ended.error?.message ?? 'no reason given'} (${ended.error?.code}) in step ${ended.error?.step}`,
        );
      return ended;
    },
    as: (other) => openApi(url, other),
  };
  return api;
}
