/** The control worker: runs workflows, their record steps beside them, and the steps on OVN and object stores. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { joinControlPlane } from '../database/controlNodes.ts';
import { stopRequested } from './stop.ts';
import { startWorkerProcess } from './worker.ts';

/** Built beforehand, so that a worker starts at once; built here otherwise. */
const prebuilt = process.env.BELAY_WORKFLOW_BUNDLE ?? '';

const stop = stopRequested();
const processOf = await startWorkerProcess();
const workflowBundle = existsSync(prebuilt)
  ? { codePath: prebuilt }
  : await bundleWorkflowCode({
      workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)),
      logger: new DefaultLogger('ERROR'),
    });
const newWorker = () =>
  processOf.worker({
    taskQueue: 'control',
    workflowBundle,
    // Enough for two cores to be busy. With more, a thousand operations that begin at once keep those under way waiting beyond the ten
    // seconds after which Temporal takes a workflow away from the worker that has it in memory; then it stands in line again, and is replayed.
    maxConcurrentWorkflowTaskExecutions: 20,
    maxConcurrentActivityTaskExecutions: 200,
  });
const node = joinControlPlane(processOf.database, processOf.log, { role: 'control' });
let stopping = false;
void stop.then(() => {
  stopping = true;
});
processOf.log.info('control worker ready');
while (!stopping) {
  // Taken before it is asked: a change while a worker is made ends that one, too.
  const changed = node.changed();
  if (node.isDraining()) {
    await node.drained();
    await Promise.race([stop, changed]);
    continue;
  }
  const worker = await newWorker();
  // Workflows go on elsewhere from where they are; what a step has begun it ends, or another worker does.
  const ended = worker.run();
  void Promise.race([stop, changed]).then(() => worker.shutdown());
  await ended;
}
await node.leave();
await processOf.close();
process.exit(0);
