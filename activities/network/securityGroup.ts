import { namingGroup } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { forms } from '../../model/forms.ts';
import {
  addressGroupsIn,
  contradictionsOf,
  familyOf,
  type Rule,
  securityGroupsIn,
} from '../../model/network/securityGroup.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { addressSetName } from './addressGroup.ts';
import { type OvsdbOperation, present, rowTags, set, taggedWith } from './northbound.ts';
import { portsOf } from './ports.ts';

export type { Rule };

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
  const family = familyOf(rule);
  const parts = [inbound ? `outport == @${group}` : `inport == @${group}`, `ip${family}`];
  const remote = `ip${family}.${inbound ? 'src' : 'dst'}`;
  if (rule.remoteCidr && !rule.remoteCidr.endsWith('/0')) parts.push(`${remote} == ${rule.remoteCidr}`);
  // A set that is empty, or not there, matches nothing. That of a port group OVN keeps itself, from the addresses of its ports.
  if (rule.remoteAddressGroupId) parts.push(`${remote} == $${addressSetName(rule.remoteAddressGroupId, family)}`);
  if (rule.remoteSecurityGroupId)
    parts.push(`${remote} == $${securityGroupName(rule.remoteSecurityGroupId)}_ip${family}`);
  if (rule.protocol === 'icmp' || rule.protocol === 'icmpv6') {
    const icmp = `icmp${family}`;
    parts.push(icmp);
    if (rule.icmpType !== undefined) parts.push(`${icmp}.type == ${rule.icmpType}`);
    if (rule.icmpCode !== undefined) parts.push(`${icmp}.code == ${rule.icmpCode}`);
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

/** How guests ask for an address: by DHCP (RFC 2131), and by DHCPv6 (RFC 8415). OVN lets neighbour discovery pass by itself. */
const addressRequests = [
  'ip4 && ip4.dst == 255.255.255.255 && udp && udp.src == 68 && udp.dst == 67',
  'ip6 && ip6.dst == ff02::1:2 && udp && udp.src == 546 && udp.dst == 547',
];

/** Whether a rule lets anything through. A stored one that contradicts itself does not. */
export const opens = (rule: Rule): boolean =>
  rule.enabled !== false &&
  contradictionsOf(rule).length === 0 &&
  (!rule.remoteCidr || forms.cidr?.fits(rule.remoteCidr) === true);

/**
 * What the rules of a group come to. A rule for outbound traffic closes what no rule opens, on every interface that carries the group, and so
 * does one that is not enabled; asking for an address stays possible.
 */
export function aclsOf(group: string, rules: readonly Rule[]): Acl[] {
  const closing: Acl[] = rules.some(({ direction }) => direction === 'out')
    ? [
        {
          direction: 'from-lport',
          priority: priorities.closedOutbound,
          match: `inport == @${group} && ip`,
          action: 'drop',
        },
        ...addressRequests.map(
          (request): Acl => ({
            direction: 'from-lport',
            priority: priorities.addressRequest,
            match: `inport == @${group} && ${request}`,
            action: 'allow',
          }),
        ),
      ]
    : [];
  const opening = rules.filter(opens).map(
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

const writeRules = statement(
  (
    p: Values<{ securityGroupId: string; rules: string; addressGroupIds: string[]; remoteSecurityGroupIds: string[] }>,
  ) =>
    from
      .updateTable('securityGroup')
      .set({ rules: p.rules, addressGroupIds: p.addressGroupIds, remoteSecurityGroupIds: p.remoteSecurityGroupIds })
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
          remoteSecurityGroupIds: securityGroupsIn(rules),
        }),
      );
    },
  }),

  /**
   * Rules and interfaces that were on their way when the deletion was accepted may name the group by now. None does later: whoever wants to waits
   * behind the deletion, and finds the group gone.
   */
  proveUnused: step({
    system: 'record',
    async do({ securityGroupId }: { securityGroupId: string }) {
      const [user] = await namingGroup(world.database.connections, { securityGroupId });
      if (user)
        throw refuse('HAS_DEPENDENTS', `${user.kind} ${user.id} names security group ${securityGroupId} by now`);
    },
  }),

  remove: step({
    system: 'ovn',
    do: ({ securityGroupId }: { securityGroupId: string }) => remove(world, securityGroupId),
  }),
});
