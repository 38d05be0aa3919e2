/** Maintenance now, as an operator triggers it in Temporal's page. */
import { Connection, Client as TemporalClient } from '@temporalio/client';
import { type MaintenanceName, maintenanceId } from '../../model/platform/maintenance.ts';
import { untilSeen } from './operations.ts';

/** Calls `work` with a client of the Temporal there. */
export async function withTemporal<T>(address: string, work: (temporal: TemporalClient) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new TemporalClient({ connection, namespace: 'belay' }));
  } finally {
    await connection.close();
  }
}

/** Triggers a Temporal Schedule, whatever of it runs already, and waits until that run has ended. */
export async function triggered(temporal: TemporalClient, scheduleId: string): Promise<{ workflowId: string }> {
  const handle = temporal.schedule.getHandle(scheduleId);
  const runs = async (): Promise<string[]> =>
    (await handle.describe()).info.recentActions.map(({ action }) => action.workflow.firstExecutionRunId);
  const known = new Set(await runs());
  await handle.trigger();
  const [runId] = await untilSeen(
    async () => (await runs()).filter((id) => !known.has(id)),
    (fresh) => fresh.length > 0,
  );
  const { info } = await handle.describe();
  const workflowId =
    info.recentActions.find(({ action }) => action.workflow.firstExecutionRunId === runId)?.action.workflow
      .workflowId ?? '';
  await temporal.workflow
    .getHandle(workflowId, runId)
    .result()
    .catch(() => {});
  return { workflowId };
}

/** Runs maintenance again and again until what is looked for is so. */
export const maintainUntil = (address: string, name: MaintenanceName, isSo: () => Promise<boolean>): Promise<void> =>
  withTemporal(address, async (temporal) => {
    while (!(await isSo())) await triggered(temporal, maintenanceId(name));
  });
