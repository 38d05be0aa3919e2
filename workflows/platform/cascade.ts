import { type Step, saga } from '../saga.ts';
import { cascades } from '../steps.ts';

export interface Cascade {
  kind: string;
  id: string;
  expunge: boolean;
}

/** So many children at a time: each is as much work as any operation. */
const atOnce = 10;

/** Runs what may run side by side, some at a time; the first that fails keeps the others from beginning. */
async function each(step: Step, children: readonly Parameters<Step['child']>[0][]): Promise<void> {
  const left = [...children];
  const runNext = async (): Promise<void> => {
    for (let child = left.shift(); child !== undefined; child = left.shift()) await step.child(child);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, left.length) }, runNext));
}

/**
 * Removes a resource with all that hangs on it, whatever its kind. First everything is stopped, detached and destroyed, all of which can be
 * taken back; then it is removed, and there is only the way forward.
 */
export async function cascade({ kind, id, expunge }: Cascade): Promise<void> {
  await saga(async (step) => {
    const { destroy, remove } = await step(cascades.plan, { kind, id, expunge });
    for (const group of destroy) await each(step, group);
    step.commit();
    for (const group of remove) await each(step, group);
  });
}
