/** A client that outlives the API server it speaks to: what got no answer is asked again, under the same Idempotency-Key. */
import { type Api, ApiError, type OperationView } from '../../lab/api.ts';

export interface PersistentApi {
  /** As `Api.call`; throws ApiError only for what the API really refused. */
  call<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /** Follows an operation to its end, or until it is stuck. */
  settled(operationId: string): Promise<OperationView>;
  /** Asks for an operation and follows it. */
  ended(method: string, path: string, body?: unknown): Promise<OperationView>;
}

/** Far beyond any restart; a bound, not a measure. */
const patienceMs = 300_000;

export function persistent(api: Api): PersistentApi {
  async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers = method === 'GET' ? {} : { 'Idempotency-Key': crypto.randomUUID() };
    for (const until = Date.now() + patienceMs; ; ) {
      try {
        return await api.call<T>(method, path, body, headers);
      } catch (error) {
        const refused = error instanceof ApiError && error.problem.status < 500;
        if (refused || Date.now() > until) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }
  async function settled(operationId: string): Promise<OperationView> {
    for (const until = Date.now() + patienceMs; ; ) {
      const operation = await call<OperationView>('GET', `/v1/operations/${operationId}?waitSeconds=10`);
      if (['succeeded', 'failed', 'cancelled', 'stuck'].includes(operation.state)) return operation;
      if (Date.now() > until) throw new Error(`${operation.type} ${operationId} does not end: ${describe(operation)}`);
    }
  }
  return {
    call,
    settled,
    async ended(method, path, body) {
      const { id } = await call<OperationView>(method, path, body);
      return settled(id);
    },
  };
}

/** An operation in one line, for the reader of a failed test. */
export function describe({ type, targetId, state, error, steps }: OperationView): string {
  const done = steps.map((step) => `${step.name} ${step.state}${step.attempts > 1 ? ` ×${step.attempts}` : ''}`);
  return `${type} ${targetId} ${state}${error ? ` (${error.code}: ${error.message}, in ${error.step})` : ''}: ${done.join(', ')}`;
}
