/** Whoever compares OVN with the records reads it piece by piece: the database answers everybody in turn. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readNorthbound } from '../../../activities/network/audit.ts';
import {
  type Northbound,
  type OvsdbOperation,
  openNorthbound,
  rowTags,
} from '../../../activities/network/northbound.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { cloud } from '../simulator/cloud.ts';

const count = 1_203;
const idOf = (n: number): string => `50000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const networkId = '10000000-0000-4000-8000-000000000001';

let simulator: Simulator;
let northbound: Northbound;
beforeEach(async () => {
  simulator = await cloud({ hosts: 1 });
  northbound = openNorthbound(simulator.ovn.nbRemote);
});
afterEach(async () => {
  northbound.close();
  await simulator.stop();
});

test('all rows are found, and no answer holds more of them than a piece', async () => {
  const ports = Array.from(
    { length: count },
    (_, n): OvsdbOperation => ({
      op: 'insert',
      table: 'Logical_Switch_Port',
      'uuid-name': `port${n}`,
      row: { name: idOf(n), external_ids: rowTags('networkInterface', idOf(n)) },
    }),
  );
  const named = ['set', ports.map((_, n) => ['named-uuid', `port${n}`])];
  await northbound.transact('prepare', [
    ...ports,
    {
      op: 'insert',
      table: 'Logical_Switch',
      row: { name: 'ours', ports: named, external_ids: rowTags('network', networkId) },
    },
    { op: 'insert', table: 'Logical_Switch', row: { name: 'of somebody else' } },
    { op: 'insert', table: 'Port_Group', row: { name: 'theirs' } },
  ]);
  const answers: number[] = [];
  const counting: Northbound = {
    ...northbound,
    async transact(comment, operations) {
      const results = await northbound.transact(comment, operations);
      answers.push(results.reduce((sum, { rows = [] }) => sum + rows.length, 0));
      return results;
    },
  };
  const found = await readNorthbound({ northbound: counting });
  expect([...found.ports.keys()].sort()).toEqual(ports.map((_, n) => idOf(n)));
  expect([...found.switches.keys()]).toEqual([networkId]);
  expect(found.groups.size).toBe(0);
  expect([...(found.tagged.get('networkInterface') ?? [])].length).toBe(count);
  expect(Math.max(...answers)).toBe(500);
});
