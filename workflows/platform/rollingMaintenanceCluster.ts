import { ApplicationFailure } from '@temporalio/workflow';
import { clusters } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { partsOf, runEach, withinWindow } from './many.ts';

/**
 * Maintains the hosts of a cluster, some at a time. Each is an operation of its own: one that is done stays done, and when this is cancelled, those under
 * way come back into use by themselves. What was not begun, was skipped, or has failed, is told as left.
 */
export const rollingMaintenanceCluster = workflow(
  'cluster.rollingMaintenance',
  async (step, { clusterId, order, goesOn, batchSize, stopOnFailure, notAfter, secondsPerHost, ...how }) => {
    const { hook, byBmc, instances, moveBack, maxParallel, reason } = how;
    const { hosts, skipped, left: noTurn } = await step(clusters.planMaintenance, { clusterId, order, goesOn, byBmc });
    const input = {
      hook,
      ...(byBmc ? { byBmc } : {}),
      instances,
      moveBack,
      maxParallel,
      ...(reason === null ? {} : { reason }),
    };
    // Runs from before that was planned were told of none.
    const left = new Set([...hosts.map(({ id }) => id), ...((noTurn as string[] | undefined) ?? [])]);
    const pieces = hosts.map(({ id }) => ({
      about: id,
      request: { type: 'host.maintain', targetId: id, input },
    }));
    const { succeeded, failed, notRun } = await runEach(step, pieces, {
      maxParallel: batchSize,
      stopOnFailure,
      mayBegin: withinWindow(notAfter, secondsPerHost),
      onSuccess: ({ about }) => left.delete(about),
    });
    const told = partsOf({ succeeded, failed, notRun, skipped: skipped.slice(0, 100), left: [...left] });
    if (failed.length > 0)
      throw ApplicationFailure.nonRetryable(
        `${failed.length} of ${pieces.length} hosts failed; the first: ${failed[0]?.message}`,
        'PARTLY_FAILED',
        told,
      );
    return told;
  },
);
