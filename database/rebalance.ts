/** Which moves make the hosts of a cluster used alike: few of them, each better than what was before, and each one that placement would make. */
import { sql } from 'kysely';
import type { Queryable } from './database.ts';
import { illHosts } from './detection.ts';
import { type Imagination, imagine, moveInThought, type Resident } from './moves.ts';
import { from, statement, type Values } from './statement.ts';

/** What is evened out, how far, and by how many moves. */
export interface Evening {
  metric: 'memory' | 'vcpus';
  spreadPercent: number;
  maxMoves: number;
}

export interface RebalancePlan {
  metric: Evening['metric'];
  /** By how much the shares of the fullest and the emptiest host differ. */
  spreadBeforePercent: number;
  spreadAfterPercent: number;
  hosts: { hostId: string; hostName: string; beforePercent: number; afterPercent: number }[];
  moves: {
    instanceId: string;
    instanceName: string;
    fromHostId: string;
    toHostId: string;
    /** The share of the host that it leaves, before and after. */
    fromPercent: number;
    toPercent: number;
  }[];
  /** Why there are no more moves. */
  why: string;
}

/** A question to the database for each: so many are asked before the rest is left as it is. */
const triesMax = 500;
/** What leaves a host goes to one of so many that are the emptiest: more would be thought of for each instance, and chosen hardly ever. */
const targetsMost = 8;

/** Nothing moves from or to a host on which nothing that is new would run. */
const isWell = sql<boolean>`c."hostId" NOT IN (${sql.raw(illHosts)})`;

export const openHosts = statement((p: Values<{ clusterId: string }>) =>
  from
    .selectFrom('hostCapacity as c')
    .innerJoin('host as h', 'h.id', 'c.hostId')
    .select(['h.id', 'h.name', 'c.vcpus', 'c.memoryMib', 'c.claimedVcpus', 'c.claimedMemoryMib'])
    .where('c.clusterId', '=', p.clusterId)
    .where('c.open', '=', true)
    .where(isWell)
    .where('c.vcpus', '>', 0)
    .where('c.memoryMib', '>', 0)
    .orderBy('h.name')
    .orderBy('h.id'),
);

type OpenHost = Awaited<ReturnType<typeof openHosts>>[number];

const percent = (share: number): number => Math.round(share * 1000) / 10;

/** How much of what a host may promise is promised, once the moves so far are made. */
function shares(thought: Imagination, hosts: readonly OpenHost[], metric: Evening['metric']): Map<string, number> {
  const shareOf = ({ id, vcpus, memoryMib, claimedVcpus, claimedMemoryMib }: OpenHost): number => {
    const moved = thought.moved.get(id);
    return metric === 'vcpus'
      ? (claimedVcpus + (moved?.vcpus ?? 0)) / vcpus
      : (claimedMemoryMib + (moved?.memoryMib ?? 0)) / memoryMib;
  };
  return new Map(hosts.map((host) => [host.id, shareOf(host)]));
}

interface Candidate {
  resident: Resident;
  target: string;
  /** The greater of both shares afterwards. */
  worst: number;
  /** Where several are as good, the emptiest takes it. */
  atTarget: number;
}

/** What could leave a host for one of these so that neither is as full as that was, the best first. */
function candidates(
  source: OpenHost,
  targets: readonly OpenHost[],
  residents: readonly Resident[],
  now: ReadonlyMap<string, number>,
  metric: Evening['metric'],
): Candidate[] {
  const before = now.get(source.id) ?? 0;
  const sizeOn = ({ vcpus, memoryMib }: OpenHost, resident: Resident): number =>
    metric === 'vcpus' ? resident.vcpus / vcpus : resident.memoryMib / memoryMib;
  return residents
    .filter(({ busy, stays, state }) => state === 'running' && !busy && !stays)
    .flatMap((resident) =>
      targets.map((target): Candidate => {
        const left = before - sizeOn(source, resident);
        const atTarget = (now.get(target.id) ?? 0) + sizeOn(target, resident);
        return { resident, target: target.id, worst: Math.max(left, atTarget), atTarget };
      }),
    )
    .filter(({ worst }) => worst < before)
    .sort((a, b) => a.worst - b.worst || a.atTarget - b.atTarget || (a.resident.id < b.resident.id ? -1 : 1));
}

const spreadOf = (of: ReadonlyMap<string, number>): number =>
  of.size === 0 ? 0 : Math.max(...of.values()) - Math.min(...of.values());

export async function planRebalance(
  on: Queryable,
  { clusterId, metric, spreadPercent, maxMoves }: Evening & { clusterId: string },
): Promise<RebalancePlan> {
  const hosts = await openHosts(on, { clusterId });
  const thought = await imagine(
    on,
    hosts.map(({ id }) => id),
  );
  const before = shares(thought, hosts, metric);
  const moves: RebalancePlan['moves'] = [];
  const moved = new Set<string>();
  /** `instance host`, where placement makes no such move. */
  const refused = new Set<string>();
  let tries = 0;

  /** The best move from the fullest host from which placement makes one. Only hosts that differ by more than is wanted give and take. */
  async function next(): Promise<boolean> {
    const now = shares(thought, hosts, metric);
    const shareOf = ({ id }: OpenHost): number => now.get(id) ?? 0;
    const inOrder = hosts.toSorted((a, b) => shareOf(b) - shareOf(a));
    const emptiest = inOrder.slice(-targetsMost).reverse();
    const residentsOn = new Map<string, Resident[]>(hosts.map(({ id }) => [id, []]));
    for (const resident of thought.residents)
      if (!moved.has(resident.id)) residentsOn.get(String(resident.hostId))?.push(resident);
    for (const source of inOrder) {
      const targets = emptiest.filter((target) => (shareOf(source) - shareOf(target)) * 100 > spreadPercent);
      if (targets.length === 0) return false;
      const residents = residentsOn.get(source.id) ?? [];
      for (const { resident, target } of candidates(source, targets, residents, now, metric)) {
        const pair = `${resident.id} ${target}`;
        if (refused.has(pair)) continue;
        if (++tries > triesMax) return false;
        const move = await moveInThought(thought, resident, { only: target });
        if (move.toHostId === null) {
          refused.add(pair);
          continue;
        }
        moved.add(move.instanceId);
        moves.push({
          instanceId: move.instanceId,
          instanceName: move.instanceName,
          fromHostId: move.fromHostId,
          toHostId: move.toHostId,
          fromPercent: percent(shareOf(source)),
          toPercent: percent(shares(thought, hosts, metric).get(move.fromHostId) ?? 0),
        });
        return true;
      }
    }
    return false;
  }

  const isEven = (): boolean => spreadOf(shares(thought, hosts, metric)) * 100 <= spreadPercent;
  while (!isEven() && moves.length < maxMoves && (await next()));
  const after = shares(thought, hosts, metric);
  return {
    metric,
    spreadBeforePercent: percent(spreadOf(before)),
    spreadAfterPercent: percent(spreadOf(after)),
    hosts: hosts.map(({ id, name }) => ({
      hostId: id,
      hostName: name,
      beforePercent: percent(before.get(id) ?? 0),
      afterPercent: percent(after.get(id) ?? 0),
    })),
    moves,
    why: isEven()
      ? `the shares of the hosts differ by no more than ${spreadPercent} %`
      : moves.length === maxMoves
        ? `no more than ${maxMoves} moves are made at a time`
        : tries > triesMax
          ? `no more than ${triesMax} moves are thought of at a time, and the last of them were none that placement would make; there may be others`
          : 'no instance that could move to one of the emptiest hosts would make it better',
  };
}
