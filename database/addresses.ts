/** Addresses of subnets come from free lists whose locked rows are skipped, so that deploys do not wait for each other. */
import { Problem } from '../runtime/problem.ts';
import type { Transaction } from './database.ts';
import { from, statement, type Values, written } from './statement.ts';

/** How many addresses are written to the free list at a time. */
const chunk = 256;

/** Nobody has it, and nobody is still waited for who may come back to it. */
const isFree = `"subnetAddress"."networkInterfaceId" IS NULL AND ("subnetAddress"."quarantinedUntil" IS NULL OR "subnetAddress"."quarantinedUntil" <= now()
  OR "subnetAddress"."formerProjectId" = $projectId::uuid)`;

const takeWanted = written<
  { address: string },
  { subnetId: string; wanted: string; networkInterfaceId: string; projectId: string | null }
>(
  `INSERT INTO "subnetAddress" ("subnetId", address, "networkInterfaceId") VALUES ($subnetId, $wanted::inet, $networkInterfaceId)
   ON CONFLICT ("subnetId", address) DO UPDATE SET "networkInterfaceId" = excluded."networkInterfaceId", "quarantinedUntil" = NULL, "formerProjectId" = NULL
     WHERE (${isFree}) OR "subnetAddress"."networkInterfaceId" = excluded."networkInterfaceId"
   RETURNING host(address) AS address`,
);

const takeFree = written<
  { address: string },
  { subnetId: string; networkInterfaceId: string; projectId: string | null }
>(
  `UPDATE "subnetAddress" SET "networkInterfaceId" = $networkInterfaceId, "quarantinedUntil" = NULL, "formerProjectId" = NULL WHERE "subnetId" = $subnetId AND address = (
     SELECT address FROM "subnetAddress" WHERE "subnetId" = $subnetId AND ${isFree} ORDER BY address LIMIT 1 FOR UPDATE SKIP LOCKED)
   RETURNING host(address) AS address`,
);

/** Writes the next addresses of the subnet's ranges to its free list, and answers a row for each that was not there. */
const addFree = written<unknown, { subnetId: string; chunk: number }>(
  `WITH cursor AS (SELECT place, next, last FROM "subnetCursor" WHERE "subnetId" = $subnetId AND next <= last ORDER BY place LIMIT 1 FOR UPDATE),
        moved AS (UPDATE "subnetCursor" c SET next = cursor.next + least($chunk::bigint, cursor.last - cursor.next + 1) FROM cursor
                  WHERE c."subnetId" = $subnetId AND c.place = cursor.place RETURNING 1)
   INSERT INTO "subnetAddress" ("subnetId", address)
   SELECT $subnetId, cursor.next + n FROM cursor, generate_series(0, least($chunk::bigint, cursor.last - cursor.next + 1) - 1) AS n
   ON CONFLICT DO NOTHING RETURNING 1`,
);

/** Held until the transaction ends: nobody writes further addresses to the free list meanwhile. */
export const cursorsOf = written<{ place: number }, { subnetId: string }>(
  `SELECT place FROM "subnetCursor" WHERE "subnetId" = $subnetId ORDER BY place FOR UPDATE`,
);

/** An address of a range that an interface has. */
export const inUseWithin = written<{ address: string }, { subnetId: string; from: string; to: string }>(
  `SELECT host(address) AS address FROM "subnetAddress" WHERE "subnetId" = $subnetId AND address BETWEEN $from::inet AND $to::inet
     AND "networkInterfaceId" IS NOT NULL AND "networkInterfaceId" <> $subnetId ORDER BY address LIMIT 1`,
);

/** Begins to give addresses out of other ranges. What somebody has is passed over when its turn comes. */
export async function resetCursors(tx: Transaction, of: { subnetId: string; cursors: string }): Promise<void> {
  await forgetFree(tx, of);
  await deleteCursor(tx, of);
  await insertCursors(tx, of);
}

const forgetFree = statement((p: Values<{ subnetId: string }>) =>
  from.deleteFrom('subnetAddress').where('subnetId', '=', p.subnetId).where('networkInterfaceId', 'is', null),
);

const insertCursors = written<never, { cursors: string }>(
  `INSERT INTO "subnetCursor" ("subnetId", place, first, next, last)
   SELECT "subnetId", place, first, next, last FROM jsonb_to_recordset($cursors::jsonb) AS c("subnetId" uuid, place int, first inet, next inet, last inet)`,
);

const unwritten = statement((p: Values<{ subnetId: string }>) =>
  from
    .selectFrom('subnetCursor')
    .select('place')
    .where('subnetId', '=', p.subnetId)
    .whereRef('next', '<=', 'last')
    .limit(1),
);

/** Whether another has it. */
export const addressTaken = written<
  { address: string },
  { subnetId: string; address: string; networkInterfaceId: string }
>(
  `SELECT host(address) AS address FROM "subnetAddress" WHERE "subnetId" = $subnetId AND address = $address::inet
     AND "networkInterfaceId" IS NOT NULL AND "networkInterfaceId" <> $networkInterfaceId`,
);

const giveBack = written<never, { networkInterfaceId: string; kept: string[]; projectId: string | null }>(
  `WITH given AS (SELECT "subnetId", address FROM "subnetAddress" WHERE "networkInterfaceId" = $networkInterfaceId AND host(address) <> ALL($kept::text[])),
        outside AS (DELETE FROM "subnetAddress" a USING given g WHERE a."subnetId" = g."subnetId" AND a.address = g.address
          AND NOT EXISTS (SELECT 1 FROM "subnetCursor" c WHERE c."subnetId" = g."subnetId" AND g.address BETWEEN c.first AND c.last) RETURNING a.address)
   UPDATE "subnetAddress" a SET "networkInterfaceId" = NULL,
     "quarantinedUntil" = CASE WHEN s."quarantineSeconds" > 0 THEN now() + make_interval(secs => s."quarantineSeconds") END,
     "formerProjectId" = CASE WHEN s."quarantineSeconds" > 0 THEN $projectId::uuid END
   FROM "subnet" s WHERE s.id = a."subnetId" AND a."networkInterfaceId" = $networkInterfaceId AND host(a.address) <> ALL($kept::text[])
     AND a.address NOT IN (SELECT address FROM outside)`,
);

/** Takes a free address for an interface; `wanted` takes that very one, and `field` is where the request names it. Throws ADDRESS_EXHAUSTED or ADDRESS_IN_USE. */
export async function takeAddress(
  tx: Transaction,
  subnetId: string,
  networkInterfaceId: string,
  wanted: string | null,
  field: string,
  projectId: string | null = null,
): Promise<string> {
  if (wanted) {
    const [taken] = await takeWanted(tx, { subnetId, wanted, networkInterfaceId, projectId });
    if (!taken)
      throw new Problem('ADDRESS_IN_USE', `address ${wanted} of subnet ${subnetId} is in use`, {
        violations: [{ field, message: 'is in use' }],
      });
    return taken.address;
  }
  for (let looks = 0; ; ) {
    const [taken] = await takeFree(tx, { subnetId, networkInterfaceId, projectId });
    if (taken) return taken.address;
    const added = await addFree(tx, { subnetId, chunk });
    if (added.length > 0) continue;
    // All that was written now may have been asked for by name before; then what comes behind it is next.
    const more = await unwritten(tx, { subnetId });
    if (more.length > 0) continue;
    // Another change may have refilled it while this one waited for the cursor: one more look, then it is full.
    if (looks++ > 0) throw new Problem('ADDRESS_EXHAUSTED', `subnet ${subnetId} has no free address left`);
  }
}

/** Gives the address of an interface back. One that was asked for by name and lies in no range of the subnet is none to give out again. */
const deleteAddresses = statement((p: Values<{ subnetId: string }>) =>
  from.deleteFrom('subnetAddress').where('subnetId', '=', p.subnetId),
);
const deleteCursor = statement((p: Values<{ subnetId: string }>) =>
  from.deleteFrom('subnetCursor').where('subnetId', '=', p.subnetId),
);

const holderOf = statement((p: Values<{ id: string }>) =>
  from.selectFrom('floatingIp').select('projectId').where('id', '=', p.id),
);

const uplinksOf = written<{ id: string }, { vpcId: string }>(
  `SELECT u.id FROM "vpc" v, jsonb_to_recordset(v.uplinks) AS u(id uuid) WHERE v.id = $vpcId`,
);

/** The addresses of its uplinks are nobody's any more. */
async function freeUplinkAddresses(tx: Transaction, vpcId: string): Promise<void> {
  for (const { id } of await uplinksOf(tx, { vpcId })) await freeAddress(tx, id);
}

/** What goes with a resource of a kind when its life is over. */
const ends: Record<string, (tx: Transaction, id: string) => Promise<void>> = {
  async subnet(tx, subnetId) {
    await deleteAddresses(tx, { subnetId });
    await deleteCursor(tx, { subnetId });
  },
  networkInterface: (tx, id) => freeAddress(tx, id),
  // What asks from it, and what is asked for at it.
  targetGroup: (tx, id) => freeAddress(tx, id),
  loadBalancer: (tx, id) => freeAddress(tx, id),
  vpc: (tx, id) => freeUplinkAddresses(tx, id),
  async floatingIp(tx, id) {
    const [held] = await holderOf(tx, { id });
    await freeAddress(tx, id, { projectId: held?.projectId ?? null });
  },
};

export const freeAddressesOf = async (tx: Transaction, kind: string, id: string): Promise<void> => ends[kind]?.(tx, id);

export async function freeAddress(
  tx: Transaction,
  networkInterfaceId: string,
  { kept = [], projectId = null }: { kept?: string[]; projectId?: string | null } = {},
): Promise<void> {
  await giveBack(tx, { networkInterfaceId, kept, projectId });
}
