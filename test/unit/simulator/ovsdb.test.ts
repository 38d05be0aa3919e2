import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Json } from '../../../lab/simulated/ovsdbDatabase.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { ask, cloud, idOf, type OvsdbClient, ovsdbClient, runDomain } from './cloud.ts';

let simulator: Simulator;
let client: OvsdbClient;
beforeEach(async () => {
  simulator = await cloud({ hosts: 2 });
  client = ovsdbClient(simulator.ovn.nbRemote);
});
afterEach(async () => {
  client.close();
  await simulator.stop();
});

const rows = (table: string) => simulator.inventory().ovn.OVN_Northbound?.[table] ?? [];
const insert = (table: string, row: Json, name?: string) => ({
  op: 'insert',
  table,
  row,
  ...(name === undefined ? {} : { 'uuid-name': name }),
});
const byName = (name: string) => [['name', '==', name]];
const port = (name: string, options: [string, string][] = []) =>
  insert('Logical_Switch_Port', { name, addresses: 'dynamic', options: ['map', options] }, 'p');
const addPort = {
  op: 'mutate',
  table: 'Logical_Switch',
  where: byName('net'),
  mutations: [['ports', 'insert', ['named-uuid', 'p']]],
};

describe('a transaction', () => {
  test('is all or nothing, and tells the failed operation inside its result', async () => {
    const result = await client.transact(
      insert('Logical_Switch', { name: 'net' }),
      insert('ACL', { priority: 40_000, direction: 'to-lport', match: '1', action: 'drop' }),
      insert('Logical_Switch', { name: 'never' }),
    );
    expect(result).toMatchObject([{ uuid: ['uuid', expect.any(String)] }, { error: 'constraint violation' }, null]);
    expect(rows('Logical_Switch')).toEqual([]);
  });

  test('whose commit fails carries one more element, and nothing of it stays', async () => {
    await client.transact(insert('Logical_Switch', { name: 'net' }), port('one'), addPort);
    const before = simulator.inventory();
    const duplicate = await client.transact(port('one'), addPort);
    expect(duplicate).toHaveLength(3);
    expect(duplicate[2]).toMatchObject({ error: 'constraint violation' });
    const missing = ['uuid', '11111111-1111-4111-8111-111111111111'];
    const broken = await client.transact({ ...addPort, mutations: [['ports', 'insert', missing]] });
    expect(broken[1]).toMatchObject({ error: 'referential integrity violation' });
    expect(simulator.inventory()).toEqual(before);
  });

  test('refuses an unknown table or column and an aborted one', async () => {
    expect(await client.transact(insert('Nothing', {}))).toMatchObject([{ error: 'unknown table' }]);
    expect(await client.transact(insert('ACL', { colour: 'red' }))).toMatchObject([{ error: 'unknown column' }]);
    const aborted = await client.transact(insert('Logical_Switch', { name: 'net' }), { op: 'abort' });
    expect(aborted).toMatchObject([{}, { error: 'aborted' }]);
    expect(rows('Logical_Switch')).toEqual([]);
  });

  test('waits for what another one brings, and times out without it', async () => {
    const wait = (timeout: number) => ({
      op: 'wait',
      table: 'Logical_Switch',
      where: byName('net'),
      columns: ['name'],
      until: '==',
      rows: [{ name: 'net' }],
      timeout,
    });
    expect(await client.transact(wait(0))).toMatchObject([{ error: 'timed out' }]);
    expect(await client.transact({ op: 'comment', comment: 'patience' }, wait(5))).toMatchObject([
      {},
      { error: 'timed out' },
    ]);
    const waited = client.transact(wait(5_000), insert('DNS', {}));
    await client.transact(insert('Logical_Switch', { name: 'net' }));
    expect(await waited).toMatchObject([{}, { uuid: ['uuid', expect.any(String)] }]);
  });

  test('selects, updates, mutates and deletes by conditions', async () => {
    const tagged = (id: string) => ['map', [['belay:id', id]]];
    await client.transact(
      insert('Address_Set', { name: 'a', addresses: ['set', ['10.0.0.1', '10.0.0.2']], external_ids: tagged('1') }),
      insert('Address_Set', { name: 'b', addresses: '10.0.0.1', external_ids: tagged('2') }),
    );
    const select = (where: Json) => ({ op: 'select', table: 'Address_Set', where, columns: ['name', 'addresses'] });
    const of = (result: Json | undefined) =>
      (result as { rows: { name: string }[] }).rows.map(({ name }) => name).sort();
    const found = await client.transact(
      select([['external_ids', 'includes', tagged('2')]]),
      select([['addresses', 'includes', '10.0.0.2']]),
      select([['addresses', 'excludes', '10.0.0.2']]),
      select([['name', '!=', 'b']]),
    );
    expect(found.map(of)).toEqual([['b'], ['a'], ['b'], ['a']]);
    expect(found[0]).toEqual({ rows: [{ name: 'b', addresses: '10.0.0.1' }] });
    const changed = await client.transact(
      {
        op: 'mutate',
        table: 'Address_Set',
        where: byName('a'),
        mutations: [['addresses', 'delete', ['set', ['10.0.0.1']]]],
      },
      {
        op: 'mutate',
        table: 'Address_Set',
        where: byName('a'),
        mutations: [
          [
            'external_ids',
            'insert',
            [
              'map',
              [
                ['belay:id', 'kept'],
                ['more', 'yes'],
              ],
            ],
          ],
          ['external_ids', 'delete', ['set', ['absent']]],
        ],
      },
      { op: 'update', table: 'Address_Set', where: byName('b'), row: { addresses: ['set', []] } },
    );
    expect(changed).toEqual([{ count: 1 }, { count: 1 }, { count: 1 }]);
    expect(rows('Address_Set')).toEqual([
      { name: 'a', addresses: ['10.0.0.2'], external_ids: { 'belay:id': '1', more: 'yes' } },
      { name: 'b', external_ids: { 'belay:id': '2' } },
    ]);
    expect(await client.transact({ op: 'delete', table: 'Address_Set', where: [] })).toEqual([{ count: 2 }]);
  });
});

describe('a row that is not root', () => {
  test('is gone when nothing refers to it: an orphan insert answers a uuid and leaves nothing', async () => {
    expect(await client.transact(port('orphan'))).toMatchObject([{ uuid: ['uuid', expect.any(String)] }]);
    expect(rows('Logical_Switch_Port')).toEqual([]);
  });

  test('goes with the last row that refers to it, and out of the sets that refer weakly', async () => {
    await client.transact(
      insert('Logical_Switch', { name: 'net' }),
      port('one'),
      addPort,
      insert('ACL', { priority: 1, direction: 'to-lport', match: '1', action: 'allow-related' }, 'acl'),
      insert('Port_Group', { name: 'sg', ports: ['named-uuid', 'p'], acls: ['named-uuid', 'acl'] }),
    );
    expect(rows('Port_Group')).toMatchObject([{ name: 'sg', ports: ['one'] }]);
    const refused = await client.transact({ op: 'delete', table: 'Logical_Switch_Port', where: byName('one') });
    expect(refused[1]).toMatchObject({ error: 'referential integrity violation' });
    await client.transact({ op: 'delete', table: 'Logical_Switch', where: byName('net') });
    expect(rows('Logical_Switch_Port')).toEqual([]);
    expect(rows('Port_Group')).toMatchObject([{ name: 'sg', acls: [expect.any(String)] }]);
    expect(rows('Port_Group')[0]).not.toHaveProperty('ports');
    await client.transact({ op: 'delete', table: 'Port_Group', where: byName('sg') });
    expect(rows('ACL')).toEqual([]);
  });
});

describe('OVN', () => {
  const a = idOf('a');
  const up = () => (rows('Logical_Switch_Port')[0] as { up?: Json } | undefined)?.up;

  test('puts a port up when the requested chassis runs its domain, and down when it stops', async () => {
    await client.transact(
      insert('Logical_Switch', { name: 'net' }),
      port(idOf(`port-of-${a}`), [['requested-chassis', 'chassis-host-1']]),
      addPort,
    );
    await runDomain(simulator, 'host-0', a);
    expect(up()).toEqual([false]);
    await client.transact({
      op: 'update',
      table: 'Logical_Switch_Port',
      where: byName(idOf(`port-of-${a}`)),
      row: { options: ['map', [['requested-chassis', 'chassis-host-1,chassis-host-0']]] },
    });
    expect(up()).toEqual([true]);
    await ask(simulator, 'host-0', 'domain.ensureOff', { id: a });
    expect(up()).toEqual([false]);
  });

  test('tells monitors what changed, as differences, and follows nb_cfg', async () => {
    const columns = ['nb_cfg', 'hv_cfg'];
    const initial = await client.call('monitor_cond', 'OVN_Northbound', 'm', {
      NB_Global: [{ columns }],
      Logical_Switch: [{ columns: ['ports'] }],
    });
    expect(Object.values((initial as { NB_Global: Record<string, Json> }).NB_Global)).toEqual([
      { initial: { nb_cfg: 0, hv_cfg: 0 } },
    ]);
    await client.transact(insert('Logical_Switch', { name: 'net' }), port('one'), addPort);
    await client.transact(port('two'), addPort);
    await client.transact({ op: 'mutate', table: 'NB_Global', where: [], mutations: [['nb_cfg', '+=', 1]] });
    const changes = () =>
      client.notifications.flatMap(({ method, params }) => (method === 'update2' ? [params[1]] : []));
    const modifyOf = (table: string) =>
      changes().flatMap((change) => Object.values((change as Record<string, Record<string, Json>>)[table] ?? {}));
    await expect.poll(() => modifyOf('NB_Global')).toEqual([{ modify: { nb_cfg: 1 } }, { modify: { hv_cfg: 1 } }]);
    expect(modifyOf('Logical_Switch')).toEqual([
      { insert: { ports: ['uuid', expect.any(String)] } },
      { modify: { ports: ['uuid', expect.any(String)] } },
    ]);
  });

  test('has a chassis for each configured host', async () => {
    const names = () =>
      (simulator.inventory().ovn.OVN_Southbound?.Chassis ?? []).map((row) => (row as { name: string }).name);
    expect(names().sort()).toEqual(['chassis-host-0', 'chassis-host-1']);
    await ask(simulator, 'host-1', 'switch.ensureUnconfigured', {});
    expect(names()).toEqual(['chassis-host-0']);
  });

  test('answers the schema, its databases and keep-alives', async () => {
    expect(await client.call('list_dbs')).toEqual(['OVN_Northbound', 'OVN_Southbound']);
    expect(await client.call('echo', 'hello')).toEqual(['hello']);
    expect(await client.call('get_schema', 'OVN_Northbound')).toMatchObject({
      tables: { NAT: { columns: { type: {} } } },
    });
    await expect(client.call('get_schema', 'Other')).rejects.toThrow('unknown database');
  });
});
