/**
 * The least that a saga on Temporal can be: as many steps beside the workflow (3) and on task queues (4, two of them at once) as
 * the deployment of an instance has, each with an undo that is registered before it runs.
 */
import { CancellationScope, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { activities } from './activities.ts';

const local = proxyLocalActivities<typeof activities>({ startToCloseTimeout: '15 s' });
const remote = proxyActivities<typeof activities>({ startToCloseTimeout: '60 s' });

export async function bareSaga(): Promise<void> {
  const undos: (() => Promise<unknown>)[] = [];
  const localStep = (): Promise<unknown> => {
    undos.push(local.localUndo);
    return local.localDo();
  };
  const remoteStep = (): Promise<unknown> => {
    undos.push(remote.remoteUndo);
    return remote.remoteDo();
  };
  try {
    await localStep();
    await localStep();
    await Promise.all([remoteStep(), remoteStep()]);
    await remoteStep();
    await remoteStep();
    await localStep();
  } catch (error) {
    await CancellationScope.nonCancellable(async () => {
      for (const undo of undos.reverse()) await undo();
    });
    throw error;
  }
}
