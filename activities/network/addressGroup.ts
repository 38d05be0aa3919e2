import { rulesNaming } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import type { Entry } from '../../model/network/addressGroup.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { withEntries } from './firewallWrites.ts';
import { absent, present, rowTags, set, taggedWith } from './northbound.ts';

export const addressSetName = (id: string, family: number): string => `ag_${id.replaceAll('-', '')}_ip${family}`;

/** The columns of an address set that its record decides. */
export const addressSetRow = (id: string, family: number, entries: readonly Entry[]) => ({
  name: addressSetName(id, family),
  addresses: set(entries.map(({ cidr }) => cidr)),
});

const table = 'Address_Set';

async function write(world: World, id: string, family: number, entries: readonly Entry[]): Promise<void> {
  const where = taggedWith('addressGroup', id);
  const [found] = await world.northbound.transact(`look for address group ${id}`, [
    { op: 'select', table, where, columns: ['_uuid'] },
  ]);
  const row = { ...addressSetRow(id, family, entries), external_ids: rowTags('addressGroup', id) };
  // In one transaction with what firewall policies make of them.
  const policies = await withEntries(
    world,
    id,
    entries.map(({ cidr }) => cidr),
  );
  await world.northbound.transact(`write address group ${id}`, [
    ...((found?.rows?.length ?? 0) > 0
      ? [
          present(table, where, `the address set of address group ${id} has gone from OVN meanwhile`),
          { op: 'update' as const, table, where, row },
        ]
      : [absent(table, where), { op: 'insert' as const, table, row }]),
    ...policies,
  ]);
}

async function remove(world: World, id: string): Promise<void> {
  await world.northbound.transact(`remove address group ${id}`, [
    { op: 'delete', table, where: taggedWith('addressGroup', id) },
  ]);
}

const writeEntries = statement((p: Values<{ addressGroupId: string; entries: string }>) =>
  from.updateTable('addressGroup').set({ entries: p.entries }).where('id', '=', p.addressGroupId),
);

interface AddressGroupRef {
  addressGroupId: string;
}

export const addressGroups = (world: World) => {
  const record = (id: string) => world.database.prisma.addressGroup.findUniqueOrThrow({ where: { id } });
  async function writeRecorded(id: string): Promise<void> {
    const { family, entries } = await record(id);
    await write(world, id, family, entries as Entry[]);
  }

  return {
    /** The group's address set. Rules name it, so that other entries change no rule. */
    make: step({
      system: 'ovn',
      do: ({ addressGroupId }: AddressGroupRef) => writeRecorded(addressGroupId),
      undoText: 'delete address set',
      undo: ({ addressGroupId }) => remove(world, addressGroupId),
    }),

    /** The new entries in one transaction: no packet ever meets a half-changed set. */
    replaceEntries: step({
      system: 'ovn',
      async do({ addressGroupId, entries }: AddressGroupRef & { entries: Entry[] }) {
        const { family } = await record(addressGroupId);
        await write(world, addressGroupId, family, entries);
      },
      undoText: 'old entries',
      undo: ({ addressGroupId }) => writeRecorded(addressGroupId),
    }),

    recordEntries: step({
      system: 'record',
      async do({ addressGroupId, entries }: AddressGroupRef & { entries: Entry[] }, context) {
        await asHolder(world.database, context, (tx) =>
          writeEntries(tx, { addressGroupId, entries: JSON.stringify(entries) }),
        );
      },
    }),

    /**
     * Rules that were on their way when the deletion was accepted may name the group by now. None does later: whoever wants to waits behind the
     * deletion, and finds the group gone.
     */
    proveUnused: step({
      system: 'record',
      async do({ addressGroupId }: AddressGroupRef) {
        const [user] = await rulesNaming(world.database.connections, { addressGroupId });
        if (user) throw refuse('HAS_DEPENDENTS', `rules name address group ${addressGroupId} by now`);
      },
    }),

    remove: step({ system: 'ovn', do: ({ addressGroupId }: AddressGroupRef) => remove(world, addressGroupId) }),
  };
};
