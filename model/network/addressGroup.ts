import { type Static, Type } from 'typebox';
import { field, json, kind, object } from '../kind.ts';

/** So many networks in one group: each becomes a flow on every host that has a port with a rule that names the group. */
const entriesMax = 256;

export const AddressEntry = object({
  cidr: Type.String({
    format: 'cidr',
    maxLength: 49,
    description: "A network of the group's family; one address is 10.0.0.7/32, or fd00::7/128",
  }),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});

export type Entry = Static<typeof AddressEntry>;

/** What of the entries can not be meant: each is of the family of its group, and there once. */
export function contradictionsIn(
  family: number,
  entries: readonly Entry[],
): { index: number; field: 'cidr'; message: string }[] {
  const first = new Map<string, number>();
  return entries.flatMap(({ cidr }, index) => {
    const other = first.get(cidr);
    if (other === undefined) first.set(cidr, index);
    const wrong = (message: string) => [{ index, field: 'cidr' as const, message }];
    if ((cidr.includes(':') ? 6 : 4) !== family)
      return wrong(`must be an IPv${family} network, as all of the group are`);
    return other === undefined ? [] : wrong(`is entries.${other} already`);
  });
}

/** Networks under one name. Rules that name the group follow its entries. */
export const addressGroup = kind({
  name: 'addressGroup',
  plural: 'address-groups',
  area: 'network',
  scope: 'project',
  summary: 'Networks that rules name as one',
  fields: {
    family: field(Type.Unsafe<4 | 6>({ type: 'integer', enum: [4, 6] }), 'create!', {
      description: 'Of all entries: 4 is IPv4, 6 is IPv6',
    }),
    entries: json(Type.Array(AddressEntry, { maxItems: entriesMax }), 'create', {
      default: [],
      description: 'A rule that names a group without entries lets nothing through',
    }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Make an address group',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['addressGroups.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setEntries: {
      summary: 'Replace all entries at once',
      happened: 'entriesSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ entries: Type.Array(AddressEntry, { maxItems: entriesMax }) }),
      pointOfNoReturn: 'addressGroups.recordEntries',
      steps: ['addressGroups.replaceEntries', 'addressGroups.recordEntries'],
    },
    repair: {
      summary: 'Write its row anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'addressGroups.make',
      steps: ['addressGroups.make'],
    },
    delete: {
      summary: 'Remove a group that no rule names',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'addressGroups.remove',
      steps: ['addressGroups.proveUnused', 'addressGroups.remove'],
    },
  },
});
