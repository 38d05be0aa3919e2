/** What is done to a cluster as a whole is refused before anything is moved, and told beforehand. */
import type { Transaction } from '../../database/database.ts';
import { emptyInThought, imagine, type Move } from '../../database/moves.ts';
import { type Evening, openHosts, planRebalance } from '../../database/rebalance.ts';
import { atWorkOnCluster, lockCluster, mostHosts, planRolling, type RollingPlan } from '../../database/rolling.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks } from '../change.ts';
import { invalid } from '../violation.ts';
import { refuseByBmcWithout, refuseLastHost, warnOfResidents, warnOfStaying } from './hostMaintenance.ts';

/** So many moves are thought of in a dry run; each is a question to the database. */
const mostThoughtOf = 1_000;
/** So many hosts are named one by one in warnings. */
const namedSkipped = 100;

/** One at a time: two would each count on room that the other takes. */
async function refuseSecond(tx: Transaction, clusterId: string): Promise<void> {
  await lockCluster(tx, { clusterId });
  const [other] = await atWorkOnCluster(tx, { clusterId });
  if (other)
    throw new Problem('RESOURCE_BUSY', `${other.type} is at work on cluster ${clusterId}, as operation ${other.id}`, {
      resource: { kind: 'operation', id: other.id },
      retryAfterSeconds: 5,
    });
}

/** Host by host, as many at a time as would be, what would go where: each after those before it. */
async function thinkThrough(tx: Transaction, { hosts }: RollingPlan, batchSize: number): Promise<Move[]> {
  const ids = hosts.map(({ id }) => id);
  const thought = await imagine(tx, ids);
  const moves: Move[] = [];
  for (let at = 0; at < ids.length && moves.length < mostThoughtOf; at += batchSize)
    moves.push(...(await emptyInThought(thought, ids.slice(at, at + batchSize))));
  return moves.slice(0, mostThoughtOf);
}

async function acceptRolling({
  tx,
  row,
  workflowInput,
  warnings,
  dryRun,
  parentOperationId,
}: Accepting): Promise<unknown> {
  const { order, goesOn, hook, byBmc, batchSize, instances, notAfter } = workflowInput as {
    order: string[] | null;
    goesOn: boolean;
    hook: string;
    byBmc?: boolean;
    batchSize: number;
    instances: string;
    notAfter: string | null;
  };
  refuseByBmcWithout(hook, byBmc);
  // The end of a schedule's window may have come while its run was on its way here.
  const isOfSchedule = parentOperationId !== null && goesOn;
  if (typeof notAfter === 'string' && !isOfSchedule && !(Date.parse(notAfter) > Date.now()))
    throw invalid('notAfter', 'must be in the future');
  await refuseSecond(tx, row.id);
  const plan = await planRolling(tx, { clusterId: row.id, order, goesOn, byBmc, operationId: parentOperationId });
  // Of what goes on, a host may have gone meanwhile.
  if (plan.unknown.length > 0 && !goesOn)
    throw invalid(`order.${order?.indexOf(plan.unknown[0] ?? '')}`, `names no host of cluster ${row.id}`);
  if (plan.hosts.length === 0)
    throw new Problem(
      'PRECONDITION_FAILED',
      plan.skipped.length === 0
        ? `cluster ${row.id} has ${plan.unknown.length === 0 ? 'no hosts' : 'none of these hosts any more'}`
        : `no host of it can be emptied now: ${plan.skipped
            .slice(0, 5)
            .map(({ hostName, reason }) => `${hostName}: ${reason}`)
            .join('; ')}`,
    );
  for (const { hostName, reason } of plan.skipped.slice(0, namedSkipped))
    warnings.push(`host ${hostName} is left alone: ${reason}`);
  for (const id of plan.unknown.slice(0, namedSkipped)) warnings.push(`host ${id} is not in the cluster any more`);
  const further = plan.left.length - plan.skipped.length;
  if (further > 0)
    warnings.push(
      `${further} further hosts are left for the next run: no more than ${mostHosts} have their turn in one`,
    );
  // All of them are in use, so that of several none is the last.
  const [only, ...others] = plan.hosts;
  if (instances === 'migrate' && only && others.length === 0) await refuseLastHost(tx, only.id, row.id);
  const moves = dryRun && instances === 'migrate' ? await thinkThrough(tx, plan, batchSize) : [];
  warnOfStaying(warnings, moves);
  if (instances === 'refuse')
    await warnOfResidents(
      tx,
      plan.hosts.map(({ id }) => id),
      warnings,
    );
  return { hosts: plan.hosts, skipped: plan.skipped, moves };
}

export const clusterHooks: Hooks = {
  'cluster.create': {
    accept({ row, references }) {
      row.zoneId = references.get(`pod/${String(row.podId)}`)?.zoneId;
    },
  },
  'cluster.rebalance': {
    async accept(accepting) {
      const { tx, row, workflowInput, dryRun } = accepting;
      await refuseSecond(tx, row.id);
      const open = await openHosts(tx, { clusterId: row.id });
      if (open.length < 2)
        throw new Problem(
          'PRECONDITION_FAILED',
          `cluster ${row.id} has ${open.length === 0 ? 'no host' : 'one host'} that is open to placement: there is nothing to even out`,
        );
      // Its workflow plans anew; here everybody who asks something of the cluster would wait meanwhile.
      if (!dryRun) return;
      const plan = await planRebalance(tx, { clusterId: row.id, ...(workflowInput as unknown as Evening) });
      accepting.plan = plan;
      if (plan.moves.length === 0) accepting.warnings.push(plan.why);
    },
  },
  'cluster.rollingMaintenance': {
    async accept(accepting) {
      accepting.plan = await acceptRolling(accepting);
    },
  },
};
