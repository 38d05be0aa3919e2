import type { Transaction } from '../../database/database.ts';
import { comingWaysInto } from '../../database/floatingIps.ts';
import type { Hold } from '../change.ts';

/** What leads to interfaces that go is held with them: it lets go of them first. Whoever stands in line before has led it there by then. */
export async function waysHeld(tx: Transaction, networkInterfaceIds: string[]): Promise<Hold[]> {
  if (networkInterfaceIds.length === 0) return [];
  const ways = await comingWaysInto(tx, { networkInterfaceIds });
  return ways.map(({ kind, id }): Hold => ({ kind, id, mode: 'X' }));
}
