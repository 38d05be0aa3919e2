import { NativeConnection, type Worker } from '@temporalio/worker';
import { config } from '../runtime/config.ts';
import { log } from '../runtime/log.ts';
import { followTemporal, needsNewConnection, type TemporalSettings } from '../temporal/connection.ts';

export interface WorkersConnection {
  /** Makes a worker on the connection of the moment; later it gets each newer one, without stopping. */
  worker(make: (connection: NativeConnection) => Promise<Worker>): Promise<Worker>;
  close(): Promise<void>;
}

/** One connection for all workers of this process, replaced under them when certificates are renewed. Waits until Temporal is there. */
export async function connectWorkers(
  settings: TemporalSettings = config.temporal,
  everyMs?: number,
): Promise<WorkersConnection> {
  const workers = new Set<Worker>();
  const following = followTemporal(
    settings,
    async (next, before) => {
      if (!needsNewConnection(next, before)) return connection.setApiKey(next.apiKey ?? '');
      const old = connection;
      connection = await NativeConnection.connect(next);
      for (const worker of workers) move(worker);
      await old
        .close()
        .catch((error: unknown) => log.warn({ error: String(error) }, 'the connection before stays open'));
    },
    everyMs,
  );
  let connection = await connectWhenReady(() => NativeConnection.connect(following.access));

  function move(worker: Worker): void {
    if (['STOPPED', 'FAILED'].includes(worker.getState())) workers.delete(worker);
    else worker.connection = connection;
  }

  return {
    async worker(make) {
      const worker = await make(connection);
      workers.add(worker);
      // It may have been replaced meanwhile.
      move(worker);
      return worker;
    },
    async close() {
      following.stop();
      await connection.close().catch(() => {});
    },
  };
}

/** Temporal may start after its workers; a worker waits, and says what for. */
async function connectWhenReady(connect: () => Promise<NativeConnection>): Promise<NativeConnection> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await connect();
    } catch (error) {
      if (attempt === 120) throw error;
      if (attempt % 10 === 1) log.warn({ address: config.temporal.address }, 'waiting for Temporal');
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}
