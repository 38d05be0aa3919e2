/** Whether a packet passes a network interface, told from the records. */
import { check } from '../acceptance/validate.ts';
import { invalid } from '../acceptance/violation.ts';
import { carrierOf, groupsAt } from '../database/networks.ts';
import { from, isAmong, statement, type Values } from '../database/statement.ts';
import type { Entry } from '../model/network/addressGroup.ts';
import { groupsIn, type PolicyDefaults, type PolicyRule } from '../model/network/firewallPolicy.ts';
import { familyOfAddress } from '../model/network/ipAddress.ts';
import { addressGroupsIn, type Rule, securityGroupsIn } from '../model/network/securityGroup.ts';
import { decide, type Packet, PacketQuestion } from '../model/network/traffic.ts';
import type { JsonSchema } from '../model/schemas.ts';
import { send } from './request.ts';
import type { Viewing } from './views.ts';

const groupsById = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('securityGroup')
    .select(['id', 'rules'])
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

const entriesById = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('addressGroup')
    .select(['id', 'entries'])
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('deletedAt', 'is', null),
);

const policyById = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('firewallPolicy')
    .select(['id', 'rules', 'defaults'])
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null),
);

const numbers = new Set(['port', 'icmpType', 'icmpCode']);

/** The packet that the query asks about. @throws Problem INVALID_ARGUMENT */
function packetOf(query: Readonly<Record<string, unknown>>): Packet {
  const given = Object.fromEntries(
    Object.entries(query).map(([name, value]) => [
      name,
      numbers.has(name) && typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value,
    ]),
  );
  const packet = check(
    'networkInterface.allowedTraffic',
    () => PacketQuestion as unknown as JsonSchema,
    given,
  ) as unknown as Packet;
  const { protocol } = packet;
  const family = familyOfAddress(packet.address);
  const hasPorts = protocol === 'tcp' || protocol === 'udp';
  if (hasPorts && packet.port === undefined) throw invalid('port', `is needed with ${protocol}`);
  if (!hasPorts && packet.port !== undefined) throw invalid('port', `goes with tcp or udp only, not with ${protocol}`);
  for (const field of ['icmpType', 'icmpCode'] as const)
    if (!protocol.startsWith('icmp') && packet[field] !== undefined)
      throw invalid(field, `goes with icmp or icmpv6 only, not with ${protocol}`);
  if ((protocol === 'icmp' && family !== 4) || (protocol === 'icmpv6' && family !== 6))
    throw invalid('protocol', `is not of IPv${family}, as the address is`);
  return packet;
}

export async function allowedTraffic({ api, ctx, row }: Viewing): Promise<void> {
  const packet = packetOf(ctx.query);
  const { connections } = api.database;
  const [carrier] = await carrierOf(connections, { id: row.id });
  const groups = (await groupsById(connections, { ids: row.securityGroupIds as string[] })).map(({ id, rules }) => ({
    id,
    rules: rules as Rule[],
  }));
  const rules = groups.flatMap((group) => group.rules);
  const [policy] = carrier?.firewallPolicyId ? await policyById(connections, { id: carrier.firewallPolicyId }) : [];
  const policyRules = (policy?.rules ?? []) as PolicyRule[];
  const named = await entriesById(connections, {
    ids: [...new Set([...addressGroupsIn(rules), ...groupsIn(policyRules)])],
  });
  const membersAt = await groupsAt(connections, { groupIds: securityGroupsIn(rules), address: packet.address });
  const verdict = decide(
    {
      families: [carrier?.address, carrier?.address6].flatMap((one) => (one ? [familyOfAddress(one)] : [])),
      portSecurity: carrier?.portSecurity ?? true,
      groups,
      entries: new Map(named.map(({ id, entries }) => [id, (entries as Entry[]).map(({ cidr }) => cidr)])),
      membersAt: new Set(membersAt.map(({ id }) => id)),
      address: (familyOfAddress(packet.address) === 6 ? carrier?.address6 : carrier?.address) ?? null,
      policy: policy ? { id: policy.id, rules: policyRules, defaults: policy.defaults as PolicyDefaults } : null,
    },
    packet,
  );
  send(ctx, 200, JSON.stringify(verdict));
}
