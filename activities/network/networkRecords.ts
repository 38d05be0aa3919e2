import { groupsOnNetwork, loosePorts } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

const subnetsOf = statement((p: Values<{ networkId: string }>) =>
  from
    .selectFrom('subnet')
    .select('id')
    .where('networkId', '=', p.networkId)
    .where('state', '=', 'ready')
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

const guestsOn = statement((p: Values<{ networkId: string }>) =>
  from
    .selectFrom('networkInterface as n')
    .innerJoin('instance as i', 'i.id', 'n.instanceId')
    .select(['i.id as instanceId', 'i.hostId'])
    .distinct()
    .where('n.networkId', '=', p.networkId)
    .where('n.deletedAt', 'is', null)
    .where('i.deletedAt', 'is', null)
    .where('i.state', 'in', ['running', 'stopped', 'lost'])
    .orderBy('i.id'),
);

export interface NetworkContents {
  subnetIds: string[];
  securityGroupIds: string[];
  instances: { instanceId: string; hostId: string | null }[];
  /** Interfaces that are attached to nothing. */
  networkInterfaceIds: string[];
}

export const networkRecords = (world: World) => ({
  /** What the records say is on a network. */
  contents: step({
    system: 'record',
    async do({ networkId }: { networkId: string }): Promise<NetworkContents> {
      const subnets = await subnetsOf(world.database.connections, { networkId });
      const groups = await groupsOnNetwork(world.database.connections, { networkId });
      const instances = await guestsOn(world.database.connections, { networkId });
      return {
        subnetIds: subnets.map(({ id }) => id),
        securityGroupIds: groups.map(({ id }) => id),
        instances,
        networkInterfaceIds: (await loosePorts(world.database.connections, { networkId })).map(({ id }) => id),
      };
    },
  }),
});
