import { declareDeadAtOnce } from '../../database/claims.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { config } from '../../runtime/config.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

/** An address that a host can have; that no other has it is the database's to say. */
function checkAddress(address: string): void {
  const simulated = address.startsWith('sim://');
  if (simulated && !config.allowSimulatedHosts)
    throw invalid('address', 'names a simulated host, which this installation does not allow');
  if (!simulated && !/^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$/.test(address))
    throw invalid('address', 'is neither an IP address nor a host name');
}

export const hostHooks: Hooks = {
  'host.create': {
    accept({ row, input, references }) {
      const address = String(input.address);
      checkAddress(address);
      if (!address.startsWith('sim://') && !input.sshPrivateKey && !input.sshPassword)
        throw invalid('sshPrivateKey', 'or sshPassword is needed for the first log-in');
      const cluster = references.get(`cluster/${String(input.clusterId)}`);
      Object.assign(row, { podId: cluster?.podId, zoneId: cluster?.zoneId });
    },
  },
  // The host is found there from now on, by the key that it always had; its action connect brings its own settings in line.
  'host.update': {
    async accept({ tx, row, input }) {
      const address = String(input.address ?? row.address);
      if (address === row.address && (input.sshPort ?? row.sshPort) === row.sshPort) return;
      if (address.startsWith('sim://') !== String(row.address).startsWith('sim://'))
        throw invalid('address', 'does not make a simulated host of a real one, or the other way round');
      checkAddress(address);
      // Its certificate for migrations names its address.
      await forgetSecrets(tx, { kind: 'host', id: row.id }, ['migrationCertificate', 'migrationKey']);
    },
  },
  'host.failover': {
    async accept({ tx, row, input }) {
      if (row.connection !== 'disconnected' && row.state !== 'fenced')
        throw new Problem(
          'PRECONDITION_FAILED',
          `host ${row.id} is ${String(row.connection)}: only one that has not answered for a few seconds is shut out`,
        );
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
