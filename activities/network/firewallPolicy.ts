import { networkCarrying } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { groupsIn, type PolicyDefaults, type PolicyRule } from '../../model/network/firewallPolicy.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { firewallGroupName, ofSomePolicy, removePolicy, writePolicy } from './firewallWrites.ts';
import { members, type OvsdbOperation, present, set, taggedWith } from './northbound.ts';

interface PolicyRef {
  firewallPolicyId: string;
}
interface Rules extends PolicyRef {
  rules: PolicyRule[];
  defaults: PolicyDefaults;
}

const writeRules = statement(
  (p: Values<{ firewallPolicyId: string; rules: string; defaults: string; addressGroupIds: string[] }>) =>
    from
      .updateTable('firewallPolicy')
      .set({ rules: p.rules, defaults: p.defaults, addressGroupIds: p.addressGroupIds })
      .where('id', '=', p.firewallPolicyId),
);

export const firewallPolicies = (world: World) => {
  async function writeRecorded(id: string): Promise<void> {
    const { rules, defaults } = await world.database.prisma.firewallPolicy.findUniqueOrThrow({ where: { id } });
    await writePolicy(world, { id, rules: rules as PolicyRule[], defaults: defaults as PolicyDefaults });
  }

  return {
    /** The policy's port group with its rows. Rows no group refers to are removed by OVSDB itself. */
    make: step({
      system: 'ovn',
      do: ({ firewallPolicyId }: PolicyRef) => writeRecorded(firewallPolicyId),
      undoText: 'delete port group',
      undo: ({ firewallPolicyId }) => removePolicy(world, firewallPolicyId),
    }),

    /** The new rules in one transaction: no packet ever meets a half-changed list. */
    replaceRules: step({
      system: 'ovn',
      do: ({ firewallPolicyId: id, rules, defaults }: Rules) => writePolicy(world, { id, rules, defaults }),
      undoText: 'old rules',
      undo: ({ firewallPolicyId }) => writeRecorded(firewallPolicyId),
    }),

    recordRules: step({
      system: 'record',
      async do({ firewallPolicyId, rules, defaults }: Rules, context) {
        await asHolder(world.database, context, (tx) =>
          writeRules(tx, {
            firewallPolicyId,
            rules: JSON.stringify(rules),
            defaults: JSON.stringify(defaults),
            addressGroupIds: groupsIn(rules),
          }),
        );
      },
    }),

    /** A network may have come to carry it since the deletion was accepted. None does later: whoever wants to waits behind the deletion, and finds it gone. */
    proveUnused: step({
      system: 'record',
      async do({ firewallPolicyId }: PolicyRef) {
        const [network] = await networkCarrying(world.database.connections, { firewallPolicyId });
        if (network)
          throw refuse('HAS_DEPENDENTS', `network ${network.id} carries firewall policy ${firewallPolicyId} by now`);
      },
    }),

    remove: step({ system: 'ovn', do: ({ firewallPolicyId }: PolicyRef) => removePolicy(world, firewallPolicyId) }),
  };
};

interface Carrying {
  networkId: string;
  firewallPolicyId: string | null;
  formerFirewallPolicyId: string | null;
}

const recordCarried = statement((p: Values<{ networkId: string; firewallPolicyId: string | null }>) =>
  from.updateTable('network').set({ firewallPolicyId: p.firewallPolicyId }).where('id', '=', p.networkId),
);

/** The ports of a network go from whichever policy holds for them to this one, or to none. */
async function movePorts(world: World, networkId: string, firewallPolicyId: string | null): Promise<void> {
  const [found] = await world.northbound.transact(`look for ports of network ${networkId}`, [
    { op: 'select', table: 'Port_Group', where: taggedWith('network', networkId), columns: ['ports'] },
  ]);
  const ports = members(found?.rows?.[0]?.ports ?? set([]));
  const where = taggedWith('firewallPolicy', firewallPolicyId ?? '');
  const join: OvsdbOperation[] = firewallPolicyId
    ? [
        present(
          'Port_Group',
          where,
          `OVN has no port group of firewall policy ${firewallPolicyId}; its action repair writes it anew`,
        ),
        { op: 'mutate', table: 'Port_Group', where, mutations: [['ports', 'insert', set(ports)]] },
      ]
    : [];
  await world.northbound.transact(`firewall policy of network ${networkId}`, [
    {
      op: 'mutate',
      table: 'Port_Group',
      where: firewallPolicyId ? [...ofSomePolicy, ['name', '!=', firewallGroupName(firewallPolicyId)]] : ofSomePolicy,
      mutations: [['ports', 'delete', set(ports)]],
    },
    ...join,
  ]);
}

/** Recorded first: a port that is plugged meanwhile is plugged by what is recorded then, and looks once more behind it. */
export const carryFirewallPolicy = (world: World) =>
  step({
    system: 'ovn',
    async do({ networkId, firewallPolicyId }: Carrying, context) {
      await asHolder(world.database, context, (tx) => recordCarried(tx, { networkId, firewallPolicyId }));
      await movePorts(world, networkId, firewallPolicyId);
    },
    undoText: 'policy before',
    async undo({ networkId, formerFirewallPolicyId }, context) {
      await asHolder(world.database, context, (tx) =>
        recordCarried(tx, { networkId, firewallPolicyId: formerFirewallPolicyId }),
      );
      await movePorts(world, networkId, formerFirewallPolicyId);
    },
  });
