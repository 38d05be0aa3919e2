import { clusters } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { partsOf, runEach } from './many.ts';

/**
 * Evens out how the hosts of a cluster are used. Each move is an operation of its own, and good by itself: one that fails is passed over and told, and
 * those that are done stay done, whatever becomes of the others.
 */
export const rebalanceCluster = workflow(
  'cluster.rebalance',
  async (step, { clusterId, metric, spreadPercent, maxMoves, maxParallel }) => {
    const { moves, ...figures } = await step(clusters.planRebalance, { clusterId, metric, spreadPercent, maxMoves });
    const pieces = moves.map(({ instanceId, fromHostId, toHostId }) => ({
      about: instanceId,
      request: {
        type: 'instance.migrate',
        targetId: instanceId,
        input: { hostId: toHostId },
        // When its turn comes it may be elsewhere.
        onlyIf: { field: 'hostId', is: fromHostId },
      },
    }));
    return { ...partsOf(await runEach(step, pieces, { maxParallel })), ...figures, moves };
  },
);
