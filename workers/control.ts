/** The control worker: runs workflows, their record steps beside them, and the steps on OVN and object stores. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
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
const worker = await processOf.worker({
  taskQueue: 'control',
  workflowBundle,
  // Enough for two cores to be busy. With more, a thousand operations that begin at once keep those under way waiting beyond the ten
  // seconds after which Temporal takes a workflow away from the worker that has it in memory; then it stands in line again, and is replayed.
  maxConcurrentWorkflowTaskExecutions: 20,
  maxConcurrentActivityTaskExecutions: 200,
});
processOf.log.info('control worker ready');
void stop.then(() => worker.shutdown());
await worker.run();
await processOf.close();
process.exit(0);
