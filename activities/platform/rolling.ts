/** What is done to a cluster as a whole: which of its hosts have their turn, and what moves between them. */
import { type Evening, planRebalance } from '../../database/rebalance.ts';
import { planRolling } from '../../database/rolling.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

export const rolling = ({ database }: World) => ({
  /** Those that can be emptied now, in their order. Of the others it says why they are left alone. */
  planMaintenance: step({
    system: 'record',
    async do(asked: { clusterId: string; order: string[] | null; goesOn: boolean; byBmc?: boolean }, { operationId }) {
      const { hosts, skipped, left, unknown } = await planRolling(database.connections, { ...asked, operationId });
      const gone = unknown.map((hostId) => ({ hostId, hostName: '', reason: 'it is not in the cluster any more' }));
      return { hosts, skipped: [...skipped, ...gone], left };
    },
  }),

  /** Which instances move where, so that the hosts are used alike afterwards. Nothing is claimed: each move does that when its turn comes. */
  planRebalance: step({
    system: 'placement',
    do: (asked: Evening & { clusterId: string }) => planRebalance(database.connections, asked),
  }),
});
