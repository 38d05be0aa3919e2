/** Maintenance now, as an operator triggers it in Temporal's page. */
import { Connection, Client as TemporalClient } from '@temporalio/client';
import type { MaintenanceName } from '../../model/platform/maintenance.ts';
import { maintenanceId } from '../../temporal/schedules.ts';

/** Calls `work` with a client of the Temporal there. */
export async function withTemporal<T>(address: string, work: (temporal: TemporalClient) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new TemporalClient({ connection, namespace: 'belay' }));
  } finally {
    await connection.close();
  }
}

/** Triggers a Temporal Schedule, and waits until a run that began since then has ended. */
export async function triggered(temporal: TemporalClient, scheduleId: string): Promise<{ workflowId: string }> {
  const handle = temporal.schedule.getHandle(scheduleId);
  // Times of runs are told to the second.
  const known = new Set((await handle.describe()).info.recentActions.map(({ action }) => action.workflow.workflowId));
  for (let begun: string | undefined; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    if (begun === undefined) await handle.trigger();
    const { info } = await handle.describe();
    begun = info.recentActions.map(({ action }) => action.workflow.workflowId).find((id) => !known.has(id));
    if (begun === undefined) continue;
    await temporal.workflow
      .getHandle(begun)
      .result()
      .catch(() => {});
    return { workflowId: begun };
  }
}

/** Runs maintenance again and again until what is looked for is so. */
export const maintainUntil = (address: string, name: MaintenanceName, isSo: () => Promise<boolean>): Promise<void> =>
  withTemporal(address, async (temporal) => {
    while (!(await isSo())) await triggered(temporal, maintenanceId(name));
  });
