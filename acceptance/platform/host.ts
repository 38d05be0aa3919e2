import { isDeepStrictEqual } from 'node:util';
import { declareDeadAtOnce } from '../../database/claims.ts';
import { refusalToFence } from '../../database/fence.ts';
import { seenNoMore } from '../../database/findings.ts';
import { givesWayOn } from '../../database/givingWay.ts';
import { guestsOf, heldBy } from '../../database/power.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { ipmiLongest } from '../../model/platform/power.ts';
import { config } from '../../runtime/config.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { mergePatch } from '../patch.ts';
import { invalid } from '../violation.ts';

/** An address that a host can have; that no other has it is the database's to say. */
function checkAddress(address: string): void {
  const simulated = address.startsWith('sim://');
  if (simulated && !config.allowSimulatedHosts)
    throw invalid('address', 'names a simulated host, which this installation does not allow');
  if (!simulated && !/^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$/.test(address))
    throw invalid('address', 'is neither an IP address nor a host name');
}

interface Bmc {
  protocol: string;
  address: string;
  port?: number;
  user: string;
  certificate?: string;
}

/** What no BMC of its protocol could take, and what would mean something else to the program that speaks to it. */
function checkBmc({ protocol, address, user, certificate }: Bmc, password: unknown): void {
  if (!/^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$/.test(address))
    throw invalid('bmc.address', 'is neither an IP address nor a host name');
  if (!/^[\x21-\x7e]+$/.test(user)) throw invalid('bmc.user', 'must be of printable ASCII characters, without spaces');
  if (protocol === 'redfish' && user.includes(':')) throw invalid('bmc.user', 'must have no colon');
  if (password !== undefined && (typeof password !== 'string' || !/^[\x20-\x7e]+$/.test(password)))
    throw invalid('bmcPassword', 'must be of printable ASCII characters');
  if (protocol !== 'ipmi') return;
  if (user.length > ipmiLongest.user)
    throw invalid('bmc.user', `has more than ${ipmiLongest.user} characters, which is all that IPMI takes`);
  if (String(password ?? '').length > ipmiLongest.password)
    throw invalid('bmcPassword', `has more than ${ipmiLongest.password} characters, which is all that IPMI takes`);
  if (certificate !== undefined) throw invalid('bmc.certificate', 'is of redfish: IPMI has none');
}

/**
 * Whoever may change a host need not know the password of its BMC, and must not have it sent to wherever they like: so nothing of a BMC changes without its
 * password beside it.
 */
async function changeBmc({ tx, row, input }: Pick<Accepting, 'tx' | 'input'> & { row: Row }): Promise<void> {
  if (input.bmc === undefined && input.bmcPassword === undefined) return;
  // It may be asked, or given another password, at this moment.
  const [held] = await heldBy(tx, { hostId: row.id });
  if (held?.operationId)
    throw new Problem('RESOURCE_BUSY', `an operation is at work on host ${row.id}, and its BMC may be in use`, {
      resource: { kind: 'operation', id: held.operationId },
      retryAfterSeconds: 5,
    });
  const before = row.bmc as Bmc | null;
  const after = (input.bmc === undefined ? before : mergePatch(before, input.bmc)) as Bmc | null;
  if (after === null) {
    if (typeof input.bmcPassword === 'string') throw invalid('bmcPassword', 'is of no use without a bmc');
    await forgetSecrets(tx, { kind: 'host', id: row.id }, ['bmcPassword']);
    await seenNoMore(tx, { resourceKind: 'host', resourceIds: [row.id], what: ['bmcUnreachable'] });
  } else {
    const isOther = !isDeepStrictEqual(before, after);
    if (input.bmcPassword === null || (isOther && input.bmcPassword === undefined))
      throw invalid('bmcPassword', 'must be given together with what changes of the bmc');
    // Another one has another certificate.
    const isElsewhere =
      before !== null && (['protocol', 'address', 'port'] as const).some((member) => before[member] !== after[member]);
    if (isElsewhere && (input.bmc as Partial<Bmc>).certificate === undefined) {
      delete after.certificate;
      (input.bmc as Record<string, unknown>).certificate = null;
    }
    if (after.protocol !== undefined && after.address !== undefined && after.user !== undefined)
      checkBmc(after, input.bmcPassword);
  }
  // What was seen by another BMC, or by another password, is not known by this one; it is asked next.
  Object.assign(row, { powerState: 'unknown', powerObservedAt: null, bmcDisprovedAt: null });
  await seenNoMore(tx, { resourceKind: 'host', resourceIds: [row.id], what: ['bmcOfAnotherMachine'] });
}

export const hostHooks: Hooks = {
  'host.create': {
    accept({ row, input, references }) {
      const address = String(input.address);
      checkAddress(address);
      if (!address.startsWith('sim://') && !input.sshPrivateKey && !input.sshPassword)
        throw invalid('sshPrivateKey', 'or sshPassword is needed for the first log-in');
      if (input.bmc) {
        if (typeof input.bmcPassword !== 'string') throw invalid('bmcPassword', 'is needed with a bmc');
        checkBmc(input.bmc as Bmc, input.bmcPassword);
      } else if (input.bmcPassword) throw invalid('bmcPassword', 'is of no use without a bmc');
      const cluster = references.get(`cluster/${String(input.clusterId)}`);
      Object.assign(row, { podId: cluster?.podId, zoneId: cluster?.zoneId });
    },
  },
  // The host is found there from now on, by the key that it always had; its action connect brings its own settings in line.
  'host.update': {
    async accept({ tx, row, input }) {
      await changeBmc({ tx, row, input });
      const address = String(input.address ?? row.address);
      if (address === row.address && (input.sshPort ?? row.sshPort) === row.sshPort) return;
      if (address.startsWith('sim://') !== String(row.address).startsWith('sim://'))
        throw invalid('address', 'does not make a simulated host of a real one, or the other way round');
      checkAddress(address);
      // Its certificate for migrations names its address.
      await forgetSecrets(tx, { kind: 'host', id: row.id }, ['migrationCertificate', 'migrationKey']);
    },
  },
  'host.power': {
    async accept({ tx, row, input, warnings }) {
      if (!row.bmc)
        throw new Problem(
          'PRECONDITION_FAILED',
          `host ${row.id} has no BMC that switches its power: update it with one`,
        );
      // It may wait for its turn, and be asked for again then.
      if (input.command === 'on' || input.force || row.fencedAt || row.deadAt) return;
      const guests = await guestsOf(tx, { hostId: row.id });
      if (guests.length > 0)
        warnings.push(
          `it would fail now: instances are on host ${row.id}; bring it into maintenance first, or use force`,
        );
      else if (row.state !== 'maintenance')
        warnings.push(
          `it would fail now: host ${row.id} is in use, and would be missed; bring it into maintenance first, or use force`,
        );
    },
  },
  'host.rotateCredentials': {
    accept({ row, input }) {
      const wanted = (input.credentials as string[] | undefined) ?? [];
      if (!row.bmc && wanted.length === 1 && wanted[0] === 'bmcPassword')
        throw new Problem('PRECONDITION_FAILED', `host ${row.id} has no BMC whose password could be changed`);
    },
  },
  'host.failover': {
    async givesWay(tx, { id, input }) {
      // One that ends now has ended before it is looked for, or sees this one wait.
      await heldBy(tx, { hostId: id });
      const [holder] = await givesWayOn(tx, { hostId: id, confirmDead: input.confirmDead === true });
      return holder?.operationId ?? null;
    },
    async accept({ tx, row, input }) {
      if (row.connection !== 'disconnected' && row.state !== 'fenced')
        throw new Problem(
          'PRECONDITION_FAILED',
          `host ${row.id} is ${String(row.connection)}: only one that has not answered for a few seconds is shut out`,
        );
      // Whoever begins it by itself has to hear it now: it would begin again and again, and nobody would be told.
      const refusal = input.confirmDead ? null : await refusalToFence(tx, { hostId: row.id });
      if (refusal !== null) throw new Problem('PRECONDITION_FAILED', refusal);
      // As for a delete: who holds the host may be waiting for guests there.
      if (input.confirmDead && row.currentOperationId) await declareDeadAtOnce(tx, { hostId: row.id });
    },
  },
  // What was an instance may have no record any more; where it has one, nobody may bring it here meanwhile.
  'host.removeStray': {
    related: ({ input }) => [{ kind: 'instance', id: String(input.instanceId) }],
    holds: ({ input, loaded }) =>
      loaded.has(`instance/${String(input.instanceId)}`)
        ? [{ kind: 'instance', id: String(input.instanceId), mode: 'X' }]
        : [],
  },
  'host.delete': {
    dependentsGo({ force, confirmDead }) {
      if (confirmDead && !force) throw invalid('confirmDead', 'goes with force');
      return confirmDead === true;
    },
    async accept({ tx, row, input }) {
      if (input.force && row.connection !== 'disconnected' && row.state !== 'fenced')
        throw new Problem(
          'PRECONDITION_FAILED',
          `host ${row.id} is ${String(row.connection)}: force is for one that has not answered for a few seconds`,
        );
      // An operation that holds the host may be waiting for guests there: they are let go of now, or the two would wait for each other.
      if (input.confirmDead && row.currentOperationId) await declareDeadAtOnce(tx, { hostId: row.id });
    },
  },
};
