/** Runs bare sagas: a worker and a client in one process. Asked `{ count }`, answers the seconds until all have run. */
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { activities } from './activities.ts';

const address = process.env.BELAY_TEMPORAL_ADDRESS ?? '';
const namespace = process.env.BELAY_TEMPORAL_NAMESPACE ?? 'belay';
const taskQueue = 'bare-saga';

Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });

async function start(): Promise<(count: number) => Promise<number>> {
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('workflow.ts', import.meta.url)),
    logger: new DefaultLogger('ERROR'),
  });
  const worker = await Worker.create({
    connection: await NativeConnection.connect({ address }),
    namespace,
    taskQueue,
    workflowBundle,
    activities,
    maxConcurrentWorkflowTaskExecutions: 100,
    maxConcurrentActivityTaskExecutions: 200,
  });
  void worker.run();
  const client = new Client({ connection: await Connection.connect({ address }), namespace });
  return async (count) => {
    const started = performance.now();
    await Promise.all(
      Array.from({ length: count }, () =>
        client.workflow.execute('bareSaga', { taskQueue, workflowId: `bare-${crypto.randomUUID()}`, args: [] }),
      ),
    );
    return (performance.now() - started) / 1000;
  };
}

const running = start();
process.on('message', ({ count }: { count: number }) => {
  running
    .then((run) => run(count))
    .then(
      (seconds) => process.send?.({ result: seconds }),
      (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
    );
});
