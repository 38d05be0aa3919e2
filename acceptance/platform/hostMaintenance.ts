/** What is known before a host is emptied: where its instances would go, and what would be missing. */
import type { Transaction } from '../../database/database.ts';
import { emptyInThought, hostsInUse, imagine, type Move, residentsOf } from '../../database/moves.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { invalid } from '../violation.ts';

/** So many instances are named one by one. */
const namedStaying = 20;

/** What runs on the last host of its cluster could go nowhere. That placement is closed to others for now is another matter: that may change at any moment. */
export async function refuseLastHost(tx: Transaction, hostId: string, clusterId: string): Promise<void> {
  const others = (await hostsInUse(tx, { clusterId })).filter(({ id }) => id !== hostId);
  if (others.length > 0) return;
  const [resident] = await residentsOf(tx, [hostId]);
  if (resident)
    throw new Problem(
      'PRECONDITION_FAILED',
      `host ${hostId} is the last of cluster ${clusterId} that is in use, so its instances can go nowhere: add a host, or let them stop (instances=stop)`,
      { resource: { kind: 'instance', id: resident.id } },
    );
}

export function refuseByBmcWithout(hook: unknown, byBmc: unknown): void {
  if (byBmc && hook !== 'reboot') throw invalid('byBmc', 'goes with the hook reboot');
}

/** Says of each instance that would have nowhere to go what is missing. */
export function warnOfStaying(warnings: string[], moves: readonly Move[]): void {
  const staying = moves.filter(({ toHostId }) => toHostId === null);
  for (const { instanceName, instanceId, missing } of staying.slice(0, namedStaying))
    warnings.push(`instance ${instanceName} (${instanceId}) could not leave its host: ${missing}`);
  if (staying.length > namedStaying) warnings.push(`so could ${staying.length - namedStaying} further instances not`);
}

/** What runs there by then may be less: an operation may wait for its turn. */
export async function warnOfResidents(tx: Transaction, hostIds: string[], warnings: string[]): Promise<void> {
  const residents = await residentsOf(tx, hostIds);
  const hosts = [...new Set(residents.map(({ hostId }) => hostId))];
  for (const id of hosts.slice(0, namedStaying)) {
    const count = residents.filter(({ hostId }) => hostId === id).length;
    warnings.push(
      `it would fail now: ${count === 1 ? 'an instance is' : `${count} instances are`} on host ${id}; let them migrate, or stop`,
    );
  }
}

async function planEmptying({ tx, row, workflowInput, warnings, dryRun }: Accepting): Promise<unknown> {
  if (workflowInput.instances === 'refuse') await warnOfResidents(tx, [row.id], warnings);
  if (workflowInput.instances !== 'migrate') return null;
  await refuseLastHost(tx, row.id, String(row.clusterId));
  if (!dryRun) return null;
  const moves = await emptyInThought(await imagine(tx, [row.id]), [row.id]);
  warnOfStaying(warnings, moves);
  return { moves };
}

const refuseUnfit = ({ id, state, connection, fault }: Row): void => {
  if (fault) throw new Problem('RESOURCE_FAULTED', `host ${id} is held by a stuck operation`);
  if (state !== 'active')
    throw new Problem('INVALID_STATE', `host ${id} is ${String(state)}; host.maintain needs active`, {
      state: String(state),
      fits: ['active'],
    });
  if (connection !== 'connected')
    throw new Problem('PRECONDITION_FAILED', `host ${id} is ${String(connection)}: nothing could be done to it`);
};

export const hostMaintenanceHooks: Hooks = {
  'host.enterMaintenance': {
    async accept(accepting) {
      accepting.plan = await planEmptying(accepting);
    },
  },
  // It holds nothing of the host, so its model can not say in which states that may be.
  'host.maintain': {
    refuse: refuseUnfit,
    async accept(accepting) {
      const { row, input } = accepting;
      refuseByBmcWithout(input.hook, input.byBmc);
      if (input.byBmc && !row.bmc)
        throw new Problem('PRECONDITION_FAILED', `host ${row.id} has no BMC by which it could be made to start anew`);
      accepting.plan = await planEmptying(accepting);
    },
  },
};
