import { addressTaken, takeAddress } from '../../database/addresses.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { isAtWire } from '../../database/wires.ts';
import { bitsOf, familyOfAddress, isWithin, networkRange, slaacAddress } from '../../model/network/ipAddress.ts';
import { interfaceSlots } from '../../model/network/networkInterface.ts';
import { Problem } from '../../runtime/problem.ts';
import { isOperator } from '../caller.ts';
import type { Accepting, Condition, Hold, Hooks, Loaded, Related, Row } from '../change.ts';
import { invalid } from '../violation.ts';
import type { Reservation, Said } from './subnet6.ts';
import { waysHeld } from './waysIn.ts';

/** Locally administered and unicast: the second digit is 2. 40 random bits are unique enough; a clash is refused by the database. */
export const newMac = (): string =>
  `02:${[...crypto.getRandomValues(new Uint8Array(5))].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;

/** @throws Problem INVALID_ARGUMENT for an address that an interface with this MAC can not have on the subnet */
export function refuseUnusable(
  subnet: Row | undefined,
  address: string | null | undefined,
  field: string,
  mac: string | null = null,
): void {
  if (!address) return;
  const cidr = String(subnet?.cidr);
  const { first, last, family } = networkRange(cidr);
  const bits = bitsOf(address);
  const isUsable = bits > first && (family === 6 ? bits <= last : bits < last);
  if (familyOfAddress(address) !== family || !isUsable || address === subnet?.gateway)
    throw invalid(field, `is no usable address of ${cidr}`);
  const reserved = (subnet?.reservedRanges ?? []) as Said[];
  if (reserved.some(({ from, to }) => isWithin(bits, { first: bitsOf(from), last: bitsOf(to) })))
    throw invalid(field, 'lies in a reserved range of the subnet');
  const reservation = ((subnet?.reservations ?? []) as Reservation[]).find(({ ip }) => ip === address);
  if (reservation?.mac !== undefined && reservation.mac !== mac)
    throw invalid(field, 'is reserved for another MAC address');
}

/** The subnet of an interface's first address. @throws Problem INVALID_ARGUMENT */
export function refuseSix(subnet: Row | undefined, field: string): void {
  if (subnet?.family === 6) throw invalid(field, 'is of IPv6: name it as subnet6Id, beside one of IPv4');
}

/** The address of IPv6 of an interface, null where it has none. @throws Problem INVALID_ARGUMENT, ADDRESS_EXHAUSTED, ADDRESS_IN_USE */
export async function takeSix(
  tx: Accepting['tx'],
  wanted: { subnet: Row | undefined; subnet6: Row | undefined; address6: string | null; id: string; mac: string },
  at: string,
): Promise<string | null> {
  const { subnet, subnet6, address6, id, mac } = wanted;
  if (!subnet6) {
    if (address6) throw invalid(`${at}address6`, 'needs subnet6Id beside it');
    return null;
  }
  if (subnet6.family !== 6) throw invalid(`${at}subnet6Id`, 'is no subnet of IPv6');
  if (subnet6.networkId !== subnet?.networkId) throw invalid(`${at}subnet6Id`, 'is on another network than subnetId');
  const made = subnet6.ipv6Mode === 'dhcpv6' ? null : slaacAddress(String(subnet6.cidr), mac);
  if (made && address6 && address6 !== made)
    throw invalid(`${at}address6`, `must be ${made}, which guests of the subnet make of the MAC address`);
  refuseUnusable(subnet6, made ?? address6, `${at}address6`, mac);
  return takeAddress(tx, subnet6.id, id, made ?? address6, `${at}address6`);
}

/** @throws Problem INVALID_ARGUMENT */
export function refusePublic(subnet: Row | undefined, field: string): void {
  if (subnet?.external) throw invalid(field, 'is a public range: instances have floating IPs of it');
}

/** @throws Problem INVALID_ARGUMENT */
export function refuseOtherZone(loaded: Loaded, groupIds: readonly string[], zoneId: unknown, field: string): void {
  for (const id of groupIds)
    if (loaded.get(`securityGroup/${id}`)?.zoneId !== zoneId)
      throw invalid(field, `security group ${id} is in another zone`);
}

const ownerOf = statement((p: Values<{ networkId: string }>) =>
  from.selectFrom('network').select('projectId').where('id', '=', p.networkId),
);

/** As whom somebody may send on a network is said by those whose network it is: others who may use it can not be anybody there. @throws Problem FORBIDDEN */
async function refuseDisguise({ tx, caller, row, verb, input }: Accepting, networkId: unknown): Promise<void> {
  const pairs = (input.allowedPairs ?? []) as unknown[];
  const fields = [
    ...(input.portSecurity === false ? ['portSecurity'] : []),
    ...(pairs.length > 0 ? ['allowedPairs'] : []),
  ];
  const [field] = fields;
  if (!field || isOperator(caller, `networkInterface.${verb}`)) return;
  const [network] = await ownerOf(tx, { networkId: String(networkId) });
  if (network?.projectId === row.projectId) return;
  throw new Problem(
    'FORBIDDEN',
    "the network is another project's: on it an interface sends with its own addresses only",
    {
      violations: [{ field, message: 'can be said on networks of your own project only' }],
    },
  );
}

const groupIdsOf = (input: Record<string, unknown>): string[] => (input.securityGroupIds ?? []) as string[];

async function create(accepting: Accepting): Promise<void> {
  const { tx, row, input, references } = accepting;
  const subnet = references.get(`subnet/${String(input.subnetId)}`);
  refusePublic(subnet, 'subnetId');
  await refuseDisguise(accepting, subnet?.networkId);
  refuseOtherZone(references, groupIdsOf(input), subnet?.zoneId, 'securityGroupIds');
  refuseSix(subnet, 'subnetId');
  const wanted = (input.address as string | null | undefined) ?? null;
  const mac = String(row.mac ?? newMac());
  refuseUnusable(subnet, wanted, 'address', mac);
  const address6 = (input.address6 as string | null | undefined) ?? null;
  const subnet6 = references.get(`subnet/${String(input.subnet6Id)}`);
  Object.assign(row, {
    networkId: subnet?.networkId,
    vpcId: subnet?.vpcId ?? null,
    zoneId: subnet?.zoneId,
    mac,
    alone: true,
    address: await takeAddress(tx, String(input.subnetId), row.id, wanted, 'address'),
    address6: await takeSix(tx, { subnet, subnet6, address6, id: row.id, mac }, ''),
  });
}

/** The instance that it is attached to takes part, and is nobody else's meanwhile. */
const instanceOf = (row: Row): Hold[] =>
  row.instanceId ? [{ kind: 'instance', id: String(row.instanceId), mode: 'X', from: ['running', 'stopped'] }] : [];

const relatedInstance = (row: Row): Related[] => instanceOf(row).map(({ kind, id }) => ({ kind, id }));

/** What the holds were told from must still be so when the turn has come. */
const stillAttachedTo = (row: Row): Condition => ({
  field: 'instanceId',
  is: row.instanceId ? String(row.instanceId) : null,
  code: 'INVALID_STATE',
  message: row.instanceId
    ? `network interface ${row.id} is not attached to instance ${String(row.instanceId)} any more`
    : `network interface ${row.id} was attached to an instance meanwhile`,
});

const notAttached = (row: Row): Condition => ({
  field: 'instanceId',
  is: null,
  code: 'ALREADY_ATTACHED',
  message: `network interface ${row.id} is attached to an instance`,
});

const interfacesOf = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('networkInterface')
    .select('id')
    .where('instanceId', '=', p.instanceId)
    .where('deletedAt', 'is', null),
);

/** Those on their way to the instance come one after another, and the database gives each its slot. */
async function refuseFullSlots({ tx, input }: Accepting): Promise<void> {
  const instanceId = String(input.instanceId);
  if ((await interfacesOf(tx, { instanceId })).length >= interfaceSlots)
    throw new Problem(
      'NOT_SUPPORTED',
      `instance ${instanceId} has ${interfaceSlots} interfaces, and can have no more`,
      {
        resource: { kind: 'instance', id: instanceId },
        limit: interfaceSlots,
      },
    );
}

const subnetOf = statement((p: Values<{ id: string }>) => from.selectFrom('subnet').selectAll().where('id', '=', p.id));

async function setAddresses({ tx, row, input }: Accepting): Promise<void> {
  const { address, address6, secondaryAddresses } = input as {
    address?: string;
    address6?: string;
    secondaryAddresses?: string[];
  };
  if (address === undefined && address6 === undefined && secondaryAddresses === undefined)
    throw invalid('secondaryAddresses', 'is needed, or address or address6: there is nothing to set');
  const [subnet] = await subnetOf(tx, { id: String(row.subnetId) });
  const [subnet6] = row.subnet6Id ? await subnetOf(tx, { id: String(row.subnet6Id) }) : [];
  if (address6 !== undefined && subnet6?.ipv6Mode !== 'dhcpv6')
    throw invalid('address6', 'is set for interfaces in a subnet with dhcpv6: others follow from the MAC address');
  const asked: [string, string][] = [
    ...(address === undefined ? [] : [[address, 'address'] as [string, string]]),
    ...(address6 === undefined ? [] : [[address6, 'address6'] as [string, string]]),
    ...(secondaryAddresses ?? []).map((one, index): [string, string] => [one, `secondaryAddresses.${index}`]),
  ];
  const primary = new Set([address ?? String(row.address), address6 ?? row.address6]);
  for (const [one, field] of asked) {
    const home = familyOfAddress(one) === 6 ? subnet6 : subnet;
    if (!home) throw invalid(field, 'is of IPv6, and the interface is in no subnet of that');
    refuseUnusable(home as Row, one, field, String(row.mac));
    if (!field.startsWith('address') && primary.has(one)) throw invalid(field, 'is its address already');
    // Whoever takes it between now and then is refused by the step, or refuses this one.
    const [taken] = await addressTaken(tx, { subnetId: home.id, address: one, networkInterfaceId: row.id });
    if (taken)
      throw new Problem('ADDRESS_IN_USE', `address ${one} of subnet ${home.id} is in use`, {
        violations: [{ field, message: 'is in use' }],
      });
  }
  if (secondaryAddresses !== undefined) return;
  for (const [one, field] of asked)
    if ((row.secondaryAddresses as string[]).includes(one))
      throw invalid(field, 'is one of its secondary addresses: say those anew beside it');
}

export const networkInterfaceHooks: Hooks = {
  'networkInterface.create': { accept: create },
  'networkInterface.update': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
    async accept(accepting) {
      const { row, input, references, workflowInput } = accepting;
      refuseOtherZone(references, groupIdsOf(input), row.zoneId, 'securityGroupIds');
      await refuseDisguise(accepting, row.networkId);
      workflowInput.patch = input;
    },
  },
  'networkInterface.attach': {
    references: (input) => [{ kind: 'instance', id: String(input.instanceId), field: 'instanceId', use: 'attach' }],
    conditions: ({ row }) => [notAttached(row)],
    holds: ({ input }) => [{ kind: 'instance', id: String(input.instanceId), mode: 'X', from: ['running', 'stopped'] }],
    async accept(accepting) {
      const { row, input, references } = accepting;
      await refuseFullSlots(accepting);
      if (references.get(`instance/${String(input.instanceId)}`)?.zoneId !== row.zoneId)
        throw invalid('instanceId', 'is in another zone');
      if (!(await isAtWire(accepting.tx, { networkInterfaceId: row.id, instanceId: String(input.instanceId) })))
        throw new Problem(
          'NO_CAPACITY',
          `the host of instance ${String(input.instanceId)} is not at the wire of the network`,
        );
    },
  },
  'networkInterface.detach': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
    accept({ row }) {
      if (!row.instanceId) throw new Problem('INVALID_STATE', `network interface ${row.id} is not attached`);
    },
  },
  'networkInterface.setAddresses': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
    accept: setAddresses,
  },
  'networkInterface.repair': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
  },
  'networkInterface.delete': {
    conditions: ({ row }) => [notAttached(row)],
    foresee: (tx, _caller, { row }) => waysHeld(tx, [row.id]),
  },
};
