/** Copies of images in pools: who makes one, and which go. Those that nothing lives on any more go when the pool needs their room. */
import { run, transaction } from '../../database/database.ts';
import { copyIsUsed, promisableGib } from '../../database/placement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { poolOf } from './pool.ts';
import { poolAgent } from './poolHost.ts';

type CacheState = 'ready' | 'mine' | 'elsewhere';

/**
 * Makes this operation the one that imports, unless the copy is there or another operation is at work on it. The work of an
 * operation that has ended without finishing it is taken over. A copy that has no room in the pool is refused by the database.
 */
export async function claimCopy(
  world: World,
  { imageId, poolId }: { imageId: string; poolId: string },
  operationId: string,
): Promise<CacheState> {
  const [mine] = await run(
    world.database.pool,
    `INSERT INTO "imageCache" AS c ("imageId", "poolId", state, "operationId", "sizeGib")
       SELECT $1, $2, 'caching', $3, coalesce((SELECT i."minSizeGib" FROM "image" i WHERE i.id = $1), 0)
     ON CONFLICT ("imageId", "poolId") DO UPDATE SET "operationId" = excluded."operationId"
       WHERE c.state = 'caching' AND (c."operationId" = excluded."operationId" OR NOT EXISTS (
         SELECT 1 FROM "operation" o WHERE o.id = c."operationId" AND o."endedAt" IS NULL))
     RETURNING 1`,
    [imageId, poolId, operationId],
  );
  if (mine) return 'mine';
  const [ready] = await run(
    world.database.pool,
    `UPDATE "imageCache" SET "lastUsedAt" = now() WHERE "imageId" = $1 AND "poolId" = $2 AND state = 'ready' RETURNING 1`,
    [imageId, poolId],
  );
  return ready ? 'ready' : 'elsewhere';
}

/** When a pool's copy `c` was last of use: when it was made, or its last clone went; records of those stay for weeks. */
const lastOfUse = `greatest(c."lastUsedAt", (SELECT max(v."deletedAt") FROM "volume" v WHERE v.source->>'imageId' = c."imageId"::text AND v."poolId" = c."poolId"))`;

/** All that a pool `p` holds, whether anything lives on it or not. */
const heldGib = `(coalesce((SELECT sum(v."sizeGib") FROM "volume" v WHERE v."poolId" = p.id AND v."deletedAt" IS NULL), 0)
  + coalesce((SELECT sum(h."sizeGib") FROM "imageCache" h WHERE h."poolId" = p.id AND h.state <> 'removing'), 0))`;

/** What a pool would not remove is not asked of it again at once: something in its trash may live on it. */
const askAgain = `interval '10 minutes'`;

/**
 * The condition on a copy `c` of pool `p` that it may go: nothing lives on it, and either it has been of no use for longer than the
 * parameter says, in seconds, or the pool holds more than it may promise.
 */
export const mayGo = (unusedForSeconds: string): string =>
  `c.state = 'ready' AND NOT ${copyIsUsed} AND (${lastOfUse} < now() - make_interval(secs => ${unusedForSeconds})
     OR (${heldGib} > ${promisableGib} AND c."lastUsedAt" < now() - ${askAgain}))`;

/** Makes the next copy that may go this operation's own. A placement that counts on a copy holds its row until its volumes name it. */
async function takeNext(world: World, poolId: string, operationId: string, unusedForSeconds: number, past: string[]) {
  return transaction(world.database, async (tx) => {
    const [next] = await run<{ imageId: string }>(
      tx,
      `SELECT c."imageId" FROM "imageCache" c JOIN "storagePool" p ON p.id = c."poolId"
       WHERE c."poolId" = $1 AND c."imageId" <> ALL($3::uuid[]) AND ${mayGo('$2')} ORDER BY ${lastOfUse}, c."imageId" LIMIT 1 FOR UPDATE OF c`,
      [poolId, unusedForSeconds, past],
    );
    if (!next) return null;
    // Asked once more under the lock: a volume may have come to live on it while this waited.
    const [mine] = await run(
      tx,
      `UPDATE "imageCache" c SET state = 'removing', "operationId" = $3 WHERE c."imageId" = $1 AND c."poolId" = $2 AND c.state = 'ready' AND NOT ${copyIsUsed} RETURNING 1`,
      [next.imageId, poolId, operationId],
    );
    return { imageId: next.imageId, isMine: mine !== undefined };
  });
}

const nobodyElseIsAtIt = `(c."operationId" = $2 OR NOT EXISTS (SELECT 1 FROM "operation" o WHERE o.id = c."operationId" AND o."endedAt" IS NULL))`;

/** Copies whose removal was begun, by an earlier attempt of this operation or by one that has ended without finishing it. */
const begun = (world: World, poolId: string, operationId: string): Promise<{ imageId: string }[]> =>
  run(
    world.database.pool,
    `UPDATE "imageCache" c SET "operationId" = $2 WHERE c."poolId" = $1 AND c.state = 'removing' AND ${nobodyElseIsAtIt} RETURNING c."imageId"`,
    [poolId, operationId],
  );

/** Removes a copy that this operation has made its own. Answers false when something still lives on it: then it stays. */
async function removeOwn(
  world: World,
  { hostId, poolId, imageId, operationId }: { hostId: string; poolId: string; imageId: string; operationId: string },
  signal: AbortSignal,
): Promise<boolean> {
  const own = `"imageId" = $1 AND "poolId" = $2 AND "operationId" = $3 AND state = 'removing'`;
  const values = [imageId, poolId, operationId];
  try {
    const pool = await poolOf(world, poolId);
    const agent = await poolAgent(world, hostId, poolId);
    await driverOf(pool).ensureAbsent(agent, pool, { of: 'image', id: imageId }, { signal, timeoutMs: 600_000 });
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'INVALID_STATE') throw error;
    await run(
      world.database.pool,
      `UPDATE "imageCache" SET state = 'ready', "lastUsedAt" = now() WHERE ${own}`,
      values,
    );
    return false;
  }
  await run(world.database.pool, `DELETE FROM "imageCache" WHERE ${own}`, values);
  return true;
}

/**
 * Ends the removal of a copy that nobody is at work on any more. Half removed it may still look whole: it must go before another is
 * made.
 */
export async function endRemoval(
  world: World,
  input: { hostId: string; poolId: string; imageId: string; operationId: string },
  signal: AbortSignal,
): Promise<void> {
  const [abandoned] = await run(
    world.database.pool,
    `UPDATE "imageCache" c SET "operationId" = $2 WHERE c."poolId" = $1 AND c."imageId" = $3 AND c.state = 'removing' AND ${nobodyElseIsAtIt} RETURNING 1`,
    [input.poolId, input.operationId, input.imageId],
  );
  if (abandoned) await removeOwn(world, input, signal);
}

/**
 * Removes the copies that may go, those of least use first, and answers which. What the pool says is still in use, by what lies in its
 * trash, stays and counts as used just now.
 */
export async function removeUnused(
  world: World,
  input: { hostId: string; poolId: string; operationId: string; unusedForSeconds: number },
  signal: AbortSignal,
): Promise<string[]> {
  const { poolId, operationId, unusedForSeconds } = input;
  const removed: string[] = [];
  const past: string[] = [];
  const remove = async (imageId: string): Promise<void> => {
    if (await removeOwn(world, { ...input, imageId }, signal)) removed.push(imageId);
  };
  for (const { imageId } of await begun(world, poolId, operationId)) await remove(imageId);
  for (;;) {
    signal.throwIfAborted();
    const next = await takeNext(world, poolId, operationId, unusedForSeconds, past);
    if (!next) return removed;
    past.push(next.imageId);
    if (next.isMine) await remove(next.imageId);
  }
}
