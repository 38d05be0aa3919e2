import type { Static } from 'typebox';
import type { SecurityRule } from '../../model/network/securityGroup.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { type OvsdbOperation, rowTags, set, taggedWith } from './northbound.ts';

export type Rule = Static<typeof SecurityRule>;

export const securityGroupName = (id: string): string => `sg_${id.replaceAll('-', '')}`;

/** OVN's match of an allow rule, as ovn-sb(5) describes the expression language. */
export function ruleMatch(group: string, rule: Rule): string {
  const parts = [rule.direction === 'in' ? `outport == @${group}` : `inport == @${group}`, 'ip4'];
  if (rule.remoteCidr) parts.push(`ip4.${rule.direction === 'in' ? 'src' : 'dst'} == ${rule.remoteCidr}`);
  if (rule.protocol === 'icmp') parts.push('icmp4');
  if (rule.protocol === 'tcp' || rule.protocol === 'udp') {
    parts.push(rule.protocol);
    const from = rule.fromPort ?? 1;
    const to = rule.toPort ?? rule.fromPort ?? 65_535;
    parts.push(
      from === to
        ? `${rule.protocol}.dst == ${from}`
        : `${rule.protocol}.dst >= ${from} && ${rule.protocol}.dst <= ${to}`,
    );
  }
  return parts.join(' && ');
}

function acls(id: string, rules: Rule[]): { inserts: OvsdbOperation[]; references: unknown } {
  const group = securityGroupName(id);
  return {
    inserts: rules.map((rule, index) => ({
      op: 'insert',
      table: 'ACL',
      'uuid-name': `rule${index}`,
      row: {
        direction: rule.direction === 'in' ? 'to-lport' : 'from-lport',
        priority: 2000,
        match: ruleMatch(group, rule),
        action: 'allow-related',
        external_ids: rowTags('securityGroup', id),
      },
    })),
    references: set(rules.map((_, index) => ['named-uuid', `rule${index}`])),
  };
}

async function write(world: World, id: string, rules: Rule[]): Promise<void> {
  const [found] = await world.northbound.transact(`look for security group ${id}`, [
    { op: 'select', table: 'Port_Group', where: taggedWith('securityGroup', id), columns: ['_uuid'] },
  ]);
  const { inserts, references } = acls(id, rules);
  const row = { name: securityGroupName(id), acls: references, external_ids: rowTags('securityGroup', id) };
  await world.northbound.transact(`write security group ${id}`, [
    ...inserts,
    (found?.rows?.length ?? 0) > 0
      ? { op: 'update', table: 'Port_Group', where: taggedWith('securityGroup', id), row: { acls: references } }
      : { op: 'insert', table: 'Port_Group', row },
  ]);
}

async function remove(world: World, id: string): Promise<void> {
  await world.northbound.transact(`remove security group ${id}`, [
    { op: 'delete', table: 'Port_Group', where: taggedWith('securityGroup', id) },
  ]);
}

export const securityGroups = (world: World) => ({
  /** The group's port group with its rules. Rows no group refers to are removed by OVSDB itself. */
  make: step({
    async do({ securityGroupId }: { securityGroupId: string }) {
      const group = await world.database.prisma.securityGroup.findUniqueOrThrow({ where: { id: securityGroupId } });
      await write(world, securityGroupId, group.rules as Rule[]);
    },
    undo: ({ securityGroupId }) => remove(world, securityGroupId),
  }),

  /** The new rules in one transaction: no packet ever meets a half-changed set. */
  replaceRules: step({
    do: ({ securityGroupId, rules }: { securityGroupId: string; rules: Rule[] }) =>
      write(world, securityGroupId, rules),
    async undo({ securityGroupId }) {
      const group = await world.database.prisma.securityGroup.findUniqueOrThrow({ where: { id: securityGroupId } });
      await write(world, securityGroupId, group.rules as Rule[]);
    },
  }),

  recordRules: step({
    async do({ securityGroupId, rules }: { securityGroupId: string; rules: Rule[] }) {
      await world.database.prisma.securityGroup.update({ where: { id: securityGroupId }, data: { rules } });
    },
  }),

  remove: step({ do: ({ securityGroupId }: { securityGroupId: string }) => remove(world, securityGroupId) }),
});
