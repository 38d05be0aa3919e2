import type { Static } from 'typebox';
import { from, statement, type Values } from '../../database/statement.ts';
import { forms } from '../../model/forms.ts';
import { addressGroupsIn, contradictionsOf, type SecurityRule } from '../../model/network/securityGroup.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { addressSetName } from './addressGroup.ts';
import { type OvsdbOperation, present, rowTags, set, taggedWith } from './northbound.ts';
import { portsOf } from './ports.ts';

export type Rule = Static<typeof SecurityRule>;

export const securityGroupName = (id: string): string => `sg_${id.replaceAll('-', '')}`;

/** A row of OVN's table ACL, as ovn-nb(5) describes it: the highest priority that matches decides; without a match a packet passes. */
export interface Acl {
  direction: 'to-lport' | 'from-lport';
  priority: number;
  match: string;
  action: 'allow' | 'allow-related' | 'drop';
}

/** Ports of a network and what its security groups say of them, each above what it makes exceptions from. */
export const priorities = { network: 1000, closedOutbound: 1500, addressRequest: 1600, rule: 2000 } as const;

/** OVN's match of an allow rule, as ovn-sb(5) describes the expression language. */
function ruleMatch(group: string, rule: Rule): string {
  const inbound = rule.direction === 'in';
  const parts = [inbound ? `outport == @${group}` : `inport == @${group}`, 'ip4'];
  const remote = `ip4.${inbound ? 'src' : 'dst'}`;
  if (rule.remoteCidr && !rule.remoteCidr.endsWith('/0')) parts.push(`${remote} == ${rule.remoteCidr}`);
  // A set that is empty, or not there, matches nothing.
  if (rule.remoteAddressGroupId) parts.push(`${remote} == $${addressSetName(rule.remoteAddressGroupId, 4)}`);
  if (rule.protocol === 'icmp') {
    parts.push('icmp4');
    if (rule.icmpType !== undefined) parts.push(`icmp4.type == ${rule.icmpType}`);
    if (rule.icmpCode !== undefined) parts.push(`icmp4.code == ${rule.icmpCode}`);
  }
  if (rule.protocol === 'tcp' || rule.protocol === 'udp') {
    parts.push(rule.protocol);
    const port = `${rule.protocol}.dst`;
    const to = rule.toPort ?? rule.fromPort;
    if (rule.fromPort !== undefined)
      parts.push(rule.fromPort === to ? `${port} == ${to}` : `${port} >= ${rule.fromPort} && ${port} <= ${to}`);
  }
  return parts.join(' && ');
}

/**
 * What the rules of a group come to. A rule for outbound traffic closes what no rule opens, on every interface that carries the group;
 * asking for an address stays possible. A stored rule that contradicts itself opens nothing.
 */
export function aclsOf(group: string, rules: readonly Rule[]): Acl[] {
  const allowed = rules.filter(
    (rule) => contradictionsOf(rule).length === 0 && (!rule.remoteCidr || forms['ipv4-network']?.fits(rule.remoteCidr)),
  );
  const closing: Acl[] = rules.some(({ direction }) => direction === 'out')
    ? [
        {
          direction: 'from-lport',
          priority: priorities.closedOutbound,
          match: `inport == @${group} && ip`,
          action: 'drop',
        },
        {
          direction: 'from-lport',
          priority: priorities.addressRequest,
          match: `inport == @${group} && ip4 && ip4.dst == 255.255.255.255 && udp && udp.src == 68 && udp.dst == 67`,
          action: 'allow',
        },
      ]
    : [];
  const opening = allowed.map(
    (rule): Acl => ({
      direction: rule.direction === 'in' ? 'to-lport' : 'from-lport',
      priority: priorities.rule,
      match: ruleMatch(group, rule),
      action: 'allow-related',
    }),
  );
  // Rules that differ in their notes only are one to OVN.
  return [...closing, ...new Map(opening.map((acl) => [`${acl.direction} ${acl.match}`, acl])).values()];
}

async function write(world: World, id: string, rules: Rule[]): Promise<void> {
  const where = taggedWith('securityGroup', id);
  const [found] = await world.northbound.transact(`look for security group ${id}`, [
    { op: 'select', table: 'Port_Group', where, columns: ['_uuid'] },
  ]);
  const name = securityGroupName(id);
  const external_ids = rowTags('securityGroup', id);
  const acls = aclsOf(name, rules);
  const references = set(acls.map((_, index) => ['named-uuid', `rule${index}`]));
  await world.northbound.transact(`write security group ${id}`, [
    ...acls.map(
      (acl, index): OvsdbOperation => ({
        op: 'insert',
        table: 'ACL',
        'uuid-name': `rule${index}`,
        row: { ...acl, external_ids },
      }),
    ),
    ...((found?.rows?.length ?? 0) > 0
      ? [
          present('Port_Group', where, `the port group of security group ${id} has gone from OVN meanwhile`),
          { op: 'update' as const, table: 'Port_Group', where, row: { acls: references } },
        ]
      : [
          {
            op: 'insert' as const,
            table: 'Port_Group',
            row: { name, acls: references, external_ids, ports: set(await portsOf(world, 'securityGroupIds', id)) },
          },
        ]),
  ]);
}

async function remove(world: World, id: string): Promise<void> {
  await world.northbound.transact(`remove security group ${id}`, [
    { op: 'delete', table: 'Port_Group', where: taggedWith('securityGroup', id) },
  ]);
}

const writeRules = statement((p: Values<{ securityGroupId: string; rules: string; addressGroupIds: string[] }>) =>
  from
    .updateTable('securityGroup')
    .set({ rules: p.rules, addressGroupIds: p.addressGroupIds })
    .where('id', '=', p.securityGroupId),
);

export const securityGroups = (world: World) => ({
  /** The group's port group with its rules. Rows no group refers to are removed by OVSDB itself. */
  make: step({
    system: 'ovn',
    async do({ securityGroupId }: { securityGroupId: string }) {
      const group = await world.database.prisma.securityGroup.findUniqueOrThrow({ where: { id: securityGroupId } });
      await write(world, securityGroupId, group.rules as Rule[]);
    },
    undoText: 'delete port group',
    undo: ({ securityGroupId }) => remove(world, securityGroupId),
  }),

  /** The new rules in one transaction: no packet ever meets a half-changed set. */
  replaceRules: step({
    system: 'ovn',
    do: ({ securityGroupId, rules }: { securityGroupId: string; rules: Rule[] }) =>
      write(world, securityGroupId, rules),
    undoText: 'old rules',
    async undo({ securityGroupId }) {
      const group = await world.database.prisma.securityGroup.findUniqueOrThrow({ where: { id: securityGroupId } });
      await write(world, securityGroupId, group.rules as Rule[]);
    },
  }),

  recordRules: step({
    system: 'record',
    async do({ securityGroupId, rules }: { securityGroupId: string; rules: Rule[] }, context) {
      await asHolder(world.database, context, (tx) =>
        writeRules(tx, {
          securityGroupId,
          rules: JSON.stringify(rules),
          addressGroupIds: addressGroupsIn(rules),
        }),
      );
    },
  }),

  remove: step({
    system: 'ovn',
    do: ({ securityGroupId }: { securityGroupId: string }) => remove(world, securityGroupId),
  }),
});
