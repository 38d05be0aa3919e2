/** Maintenance now, as an operator triggers it in Temporal's page. */
import { Connection, ScheduleNotFoundError, Client as TemporalClient } from '@temporalio/client';
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
  const runs = async () => (await handle.describe()).info.recentActions.map(({ action }) => action.workflow);
  const known = new Set((await runs()).map(({ firstExecutionRunId }) => firstExecutionRunId));
  await handle.trigger();
  const run = await untilSeen(
    () =>
      runs().then(
        (all) => all.find(({ firstExecutionRunId }) => !known.has(firstExecutionRunId)),
        (error: unknown) => {
          // A run may take away the schedule that it is of.
          if (error instanceof ScheduleNotFoundError) return null;
          throw error;
        },
      ),
    (found) => found !== undefined,
  );
  if (!run) return { workflowId: '' };
  const { workflowId, firstExecutionRunId } = run;
  await temporal.workflow
    .getHandle(workflowId, firstExecutionRunId)
    .result()
    .catch(() => {});
  return { workflowId };
}

/** Runs maintenance again and again until what is looked for is so. */
export const maintainUntil = (address: string, name: MaintenanceName, isSo: () => Promise<boolean>): Promise<void> =>
  withTemporal(address, async (temporal) => {
    while (!(await isSo())) await triggered(temporal, maintenanceId(name));
  });

/** Does `work` while maintenance runs at no time but when `work` triggers it. */
export const whilePaused = <T>(address: string, name: MaintenanceName, work: () => Promise<T>): Promise<T> =>
  withTemporal(address, async (temporal) => {
    const handle = temporal.schedule.getHandle(maintenanceId(name));
    await handle.pause();
    try {
      await untilSeen(
        async () => (await handle.describe()).info.runningActions.length,
        (running) => running === 0,
      );
      return await work();
    } finally {
      await handle.unpause();
    }
  });
