/** The auditor: what is real beside what the records say, by systems. Nothing of it is undone, and all of it may be done at once by many. */
import { acceptOwn } from '../../acceptance/own.ts';
import { firstToScan, hostsToScan, poolsToScan, toRepair } from '../../database/audit.ts';
import { hostReaching } from '../../database/placement.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import { shardOf } from '../../model/shards.ts';
import { scanHost } from '../compute/audit.ts';
import { refuse } from '../failure.ts';
import { scanNetwork } from '../network/audit.ts';
import { step } from '../step.ts';
import { scanPool } from '../storage/audit.ts';
import { tell } from '../storage/poolMetrics.ts';
import type { World } from '../world.ts';
import { scanRisks } from './risks.ts';

/** So many hosts in one step, and so many of them asked side by side. */
const hostsInStep = 200;
const atOnce = 8;

interface Page {
  /** From which host on; of the hosts of its shard, in the order of their ids. */
  hostId: string;
  /** This one alone. */
  only?: boolean;
}

export interface Looked {
  /** Where the next page begins; null when this was the last. */
  next: string | null;
  differences: number;
  /** Hosts that could not be asked. Of them nothing is said. */
  unanswered: number;
}

export const audits = (world: World) => {
  const { database, log } = world;
  const client = database.connections;

  return {
    /** The first host of every shard that has some: from there on, whoever carries the shard goes through its hosts. */
    firstHosts: step({
      system: 'record',
      async do(_: object): Promise<{ hostIds: string[] }> {
        return { hostIds: (await firstToScan(client)).map(({ id }) => id) };
      },
    }),

    /** The guests of a page of hosts. A host that is asked for alone must answer. */
    hosts: step({
      system: 'libvirt',
      async do({ hostId, only = false }: Page): Promise<Looked> {
        if (only) return { next: null, differences: await scanHost(world, hostId), unanswered: 0 };
        const found = await hostsToScan(client, { shard: shardOf(hostId), from: hostId, most: hostsInStep + 1 });
        const ids = found.map(({ id }) => id);
        const page = ids.slice(0, hostsInStep);
        let differences = 0;
        let unanswered = 0;
        await Promise.all(
          Array.from({ length: atOnce }, async () => {
            for (let id = page.pop(); id !== undefined; id = page.pop())
              try {
                differences += await scanHost(world, id);
              } catch (error) {
                // One that is ill keeps nobody from looking at the others.
                log.warn({ hostId: id, error: String(error) }, 'could not compare a host with the records');
                unanswered += 1;
              }
          }),
        );
        return { next: ids[hostsInStep] ?? null, differences, unanswered };
      },
    }),

    /** The pools that some host reaches now, each with one; or the one that is asked for. */
    pools: step({
      system: 'record',
      async do({ id }: { id: string | null }): Promise<{ pools: { storagePoolId: string; hostId: string }[] }> {
        const pools: { storagePoolId: string; hostId: string }[] = [];
        for (const pool of await poolsToScan(client)) {
          if (id !== null && pool.id !== id) continue;
          const hostId = await hostReaching(client, pool.id);
          if (hostId) pools.push({ storagePoolId: pool.id, hostId });
          else tell(pool, null);
        }
        if (id !== null && pools.length === 0)
          throw refuse('HOST_UNREACHABLE', `no connected host reaches storage pool ${id}`);
        return { pools };
      },
    }),

    pool: step({
      system: 'host',
      do: async ({ storagePoolId, hostId }: { storagePoolId: string; hostId: string }) => ({
        differences: await scanPool(world, storagePoolId, hostId),
      }),
    }),

    network: step({ system: 'ovn', do: (_: object) => scanNetwork(world) }),

    risks: step({ system: 'record', do: (_: object) => scanRisks(world) }),

    /** Begins the repair of what is repaired without asking. What is refused has its turn another time. */
    begin: step({
      system: 'record',
      async do({ systems }: { systems: string[] }): Promise<{ begun: StartOperation[] }> {
        const begun: StartOperation[] = [];
        for (const { id } of await toRepair(client, { systems })) {
          const outcome = await acceptOwn(database, 'finding', 'repair', id, 'audit', { leftToDispatcher: false });
          if (outcome?.start) begun.push(outcome.start);
        }
        return { begun };
      },
    }),
  };
};
