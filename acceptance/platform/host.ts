import { run } from '../../database/database.ts';
import { config } from '../../runtime/config.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

export const hostHooks: Hooks = {
  'host.create': {
    async accept({ tx, row, input, references }) {
      const address = String(input.address);
      const simulated = address.startsWith('sim://');
      if (simulated && !config.allowSimulatedHosts)
        throw invalid('address', 'names a simulated host, which this installation does not allow');
      if (!simulated && !/^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$/.test(address))
        throw invalid('address', 'is neither an IP address nor a host name');
      if (!simulated && !input.sshPrivateKey && !input.sshPassword)
        throw invalid('sshPrivateKey', 'or sshPassword is needed for the first log-in');
      const taken = await run(
        tx,
        `SELECT id FROM "host" WHERE address = $1 AND "sshPort" = $2 AND "deletedAt" IS NULL LIMIT 1`,
        [address, row.sshPort],
      );
      if (taken.length > 0)
        throw new Problem('ADDRESS_IN_USE', `host ${String(taken[0]?.id)} has the address ${address} already`, {
          violations: [{ field: 'address', message: 'is in use' }],
        });
      const cluster = references.get(`cluster/${String(input.clusterId)}`);
      Object.assign(row, { podId: cluster?.podId, zoneId: cluster?.zoneId });
    },
  },
};
