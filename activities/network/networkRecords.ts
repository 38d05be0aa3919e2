import { run } from '../../database/database.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

export interface NetworkContents {
  subnetIds: string[];
  securityGroupIds: string[];
  instances: { instanceId: string; hostId: string | null }[];
}

export const networkRecords = (world: World) => ({
  /** What the records say is on a network. */
  contents: step({
    system: 'record',
    async do({ networkId }: { networkId: string }): Promise<NetworkContents> {
      const subnets = await run<{ id: string }>(
        world.database.pool,
        `SELECT id FROM "subnet" WHERE "networkId" = $1 AND state = 'ready' AND "deletedAt" IS NULL ORDER BY id`,
        [networkId],
      );
      const groups = await run<{ id: string }>(
        world.database.pool,
        `SELECT DISTINCT g.id FROM "networkInterface" n JOIN "securityGroup" g ON g.id = ANY(n."securityGroupIds")
         WHERE n."networkId" = $1 AND n."deletedAt" IS NULL AND g."deletedAt" IS NULL AND g.state = 'ready' ORDER BY g.id`,
        [networkId],
      );
      const instances = await run<{ instanceId: string; hostId: string | null }>(
        world.database.pool,
        `SELECT DISTINCT i.id AS "instanceId", i."hostId" FROM "networkInterface" n JOIN "instance" i ON i.id = n."instanceId"
         WHERE n."networkId" = $1 AND n."deletedAt" IS NULL AND i."deletedAt" IS NULL AND i.state IN ('running', 'stopped') ORDER BY i.id`,
        [networkId],
      );
      return {
        subnetIds: subnets.map(({ id }) => id),
        securityGroupIds: groups.map(({ id }) => id),
        instances,
      };
    },
  }),
});
