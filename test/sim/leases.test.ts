import pg from 'pg';
import { expect, inject, test } from 'vitest';

test('the epoch of a lease rises with each new holder, whatever statement gives it, and in no other way', async () => {
  const client = new pg.Client({ connectionString: inject('cloud').databaseUrl });
  await client.connect();
  try {
    await client.query('BEGIN');
    const epochAfter = async (change: string): Promise<bigint> => {
      const { rows } = await client.query<{ epoch: string }>(
        `UPDATE "shardLease" SET ${change} WHERE shard = 0 RETURNING epoch`,
      );
      return BigInt(rows[0]?.epoch ?? 0);
    };
    const first = await epochAfter(`holder = 'first'`);
    expect(await epochAfter(`holder = 'first', "expiresAt" = now()`)).toBe(first);
    expect(await epochAfter('epoch = 0')).toBe(first);
    const second = await epochAfter(`holder = 'second', epoch = 1`);
    expect(second).toBeGreaterThan(first);
    expect(await epochAfter('holder = NULL')).toBeGreaterThan(second);
    const again = await epochAfter(`holder = 'first'`);
    expect(again).toBeGreaterThan(second);
    // In milliseconds of the clock: newer than what hosts remember from before a database was brought back.
    expect(Math.abs(Number(again) - Date.now())).toBeLessThan(3_600_000);
  } finally {
    await client.query('ROLLBACK');
    await client.end();
  }
});
