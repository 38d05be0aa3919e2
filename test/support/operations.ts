/** What tests of operations under way ask again and again. */
import { type Api, ApiError, type OperationView } from '../../lab/api.ts';
import { describe as inWords } from './persistent.ts';

/** How a request was answered: `accepted`, or status and code. */
export async function refusal(request: Promise<unknown>): Promise<string> {
  try {
    await request;
    return 'accepted';
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return `${error.problem.status} ${error.problem.code}`;
  }
}

/**
 * Asks until what is seen is as wanted; the test's own time-out is the bound. Who has waited for long asks less often: tests that wait side by
 * side would keep the machine from what they wait for.
 */
export async function untilSeen<T>(look: () => Promise<T>, wanted: (seen: T) => boolean): Promise<T> {
  for (const began = performance.now(); ; ) {
    const seen = await look();
    if (wanted(seen)) return seen;
    const pause = Math.min(500, Math.max(50, (performance.now() - began) / 10));
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Follows an operation until it is as wanted. Fails when it has ended and can not become so any more. */
export const follower =
  (api: Api) =>
  (id: string, wanted: (operation: OperationView) => boolean): Promise<OperationView> =>
    untilSeen(
      () => api.call('GET', `/v1/operations/${id}`),
      (operation) => {
        if (wanted(operation)) return true;
        if (operation.endedAt) throw new Error(`ended too soon: ${inWords(operation)}`);
        return false;
      },
    );

/** Whether the step of that name is under way. */
export const inStep =
  (name: string) =>
  ({ steps }: OperationView): boolean =>
    steps.some((step) => step.name === name && step.state === 'running');
