/** VPCs, where one thing that a person wants is several calls of the API. */
import { Command } from 'commander';
import type { Operation } from '../client.ts';
import { diagramOf, type Topology } from '../diagram.ts';
import type { Resource } from '../document.ts';
import { Usage } from '../exit-codes.ts';
import { idOf } from '../names.ts';
import { printOne, valueAt, write } from '../output.ts';
import { watchOperation } from '../progress.ts';
import { type Session, send } from '../session.ts';
import { painter } from '../terminal.ts';
import { addConnectionOptions, addOutputOptions, formatOf, type Options, textOption, timeoutOf } from './options.ts';
import { changeCommandWith } from './resource.ts';

interface Tier {
  name: string;
  cidr: string;
}

/** `web=10.0.1.0/24,app=10.0.2.0/24` */
function tiersIn(text: string): Tier[] {
  const tiers = text.split(',').map((part) => {
    const [, name = '', cidr = ''] = /^([^=]+)=([0-9.]+\/\d{1,2})$/.exec(part.trim()) ?? [];
    if (!name)
      throw new Usage(`--tiers takes <name>=<range>,…, such as web=10.0.1.0/24,app=10.0.2.0/24; found "${part}"`);
    return { name, cidr };
  });
  const twice = tiers.find(({ name }, at) => tiers.findIndex((other) => other.name === name) < at);
  if (twice) throw new Usage(`--tiers names ${twice.name} twice`);
  return tiers;
}

/** `belay vpcs create … --tiers web=10.0.1.0/24,app=10.0.2.0/24`: the VPC, and in it a network with a subnet for each. */
export function createVpcCommand(session: Session, resource: Resource): Command {
  const verb = resource.verbs.find(({ name }) => name === 'create');
  const command = new Command('create').description('Make a VPC; with --tiers its networks and subnets, too');
  if (!verb) return command;
  command.option('--tiers <name=range,…>', 'Networks with a subnet each, made once the VPC is there; waits for all');
  return changeCommandWith(command, session, resource, verb, {
    async check(options) {
      const tiers = textOption(options, 'tiers');
      if (tiers === undefined) return;
      tiersIn(tiers);
      if (options.dryRun) throw new Usage('--dry-run plans the VPC alone: leave --tiers out');
      options.wait = true;
    },
    async goOn({ targetId }, options) {
      const tiers = textOption(options, 'tiers');
      if (tiers !== undefined && targetId) await makeTiers(session, targetId, tiersIn(tiers), options);
    },
  });
}

async function makeTiers(session: Session, vpcId: string, tiers: readonly Tier[], options: Options): Promise<void> {
  const { data: vpc } = await send(session, { method: 'get', path: '/v1/vpcs/{id}', id: vpcId });
  const make = async (path: string, body: Record<string, unknown>): Promise<string> => {
    const { data } = await send(session, { method: 'post', path, body });
    const { id, targetId } = data as Operation;
    await watchOperation(session, id, timeoutOf(options));
    return targetId ?? '';
  };
  const [zoneId, projectId] = [valueAt(vpc, 'zoneId'), valueAt(vpc, 'projectId')];
  for (const [at, { name, cidr }] of tiers.entries()) {
    try {
      const networkId = await make('/v1/networks', { name, vpcId, zoneId, projectId });
      await make('/v1/subnets', { name, networkId, cidr });
      session.tell(`network ${name} with ${cidr} is there`);
    } catch (error) {
      const left = tiers.slice(at).map((tier) => tier.name);
      session.tell(
        `not made: ${left.join(', ')}; the VPC stays. Make them with: belay networks create --name <name> --vpc-id ${vpcId}, and belay subnets create`,
      );
      throw error;
    }
  }
}

/** `belay vpcs diagram <vpc>`: the graph that `views/topology` answers, drawn. */
export function diagramCommand(session: Session, resource: Resource): Command {
  const command = new Command('diagram')
    .description('Draw a VPC: its ways out, networks, subnets, and what is in them')
    .argument('<id|name>', 'The VPC, by id or name');
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (name: string, options: Options) => {
    const id = await idOf(session, resource, name);
    const { data } = await send(session, { method: 'get', path: '/v1/vpcs/{id}/views/topology', id });
    const { stdout, env } = session.terminal;
    if (formatOf(options) !== 'table')
      return printOne(session.terminal, data, { format: formatOf(options), columns: null });
    await write(stdout, diagramOf(data as Topology, painter(stdout, env)));
  });
}
