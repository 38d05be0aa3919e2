/** Copies of images in pools, as the records have them: who makes one, and which may go. */
import { copyIsUsed, promisableGib } from './placement.ts';
import { from, now, statement, type Values, written } from './statement.ts';

interface Copy {
  imageId: string;
  poolId: string;
}
type OwnCopy = Copy & { operationId: string };

/** Answers a row for who makes it. What an operation that has ended left unfinished is taken over. */
export const claimCopy = written<unknown, OwnCopy>(
  `INSERT INTO "imageCache" AS c ("imageId", "poolId", state, "operationId", "sizeGib")
     SELECT $imageId, $poolId, 'caching', $operationId, coalesce((SELECT i."minSizeGib" FROM "image" i WHERE i.id = $imageId), 0)
   ON CONFLICT ("imageId", "poolId") DO UPDATE SET "operationId" = excluded."operationId"
     WHERE c.state = 'caching' AND (c."operationId" = excluded."operationId" OR NOT EXISTS (
       SELECT 1 FROM "operation" o WHERE o.id = c."operationId" AND o."endedAt" IS NULL))
   RETURNING 1`,
);

/** Answers a row when the copy is ready. */
export const useCopy = statement((p: Values<Copy>) =>
  from
    .updateTable('imageCache')
    .set({ lastUsedAt: now })
    .where('imageId', '=', p.imageId)
    .where('poolId', '=', p.poolId)
    .where('state', '=', 'ready')
    .returning('imageId'),
);

/** When a pool's copy `c` was last of use: when it was made, or its last clone went; records of those stay for weeks. */
const lastOfUse = `greatest(c."lastUsedAt", (SELECT max(v."deletedAt") FROM "volume" v WHERE v.source->>'imageId' = c."imageId"::text AND v."poolId" = c."poolId"))`;

/** All that a pool `p` holds, whether anything lives on it or not. */
const heldGib = `(coalesce((SELECT sum(v."sizeGib") FROM "volume" v WHERE v."poolId" = p.id AND v."deletedAt" IS NULL), 0)
  + coalesce((SELECT sum(h."sizeGib") FROM "imageCache" h WHERE h."poolId" = p.id AND h.state <> 'removing'), 0))`;

/** What a pool would not remove is not asked of it again at once: something in its trash may live on it. */
const askAgain = `interval '10 minutes'`;

/**
 * The next copy of pool `p` that may go, but for those of `past`: nothing lives on it, and either it has been of no use for so many seconds, or
 * the pool holds more than it may promise. A placement that counts on a copy holds its row until its volumes name it.
 */
export const lockNextToGo = written<{ imageId: string }, { poolId: string; unusedForSeconds: number; past: string[] }>(
  `SELECT c."imageId" FROM "imageCache" c JOIN "storagePool" p ON p.id = c."poolId"
   WHERE c."poolId" = $poolId AND c."imageId" <> ALL($past::uuid[]) AND c.state = 'ready' AND NOT ${copyIsUsed}
     AND (${lastOfUse} < now() - make_interval(secs => $unusedForSeconds)
       OR (${heldGib} > ${promisableGib} AND c."lastUsedAt" < now() - ${askAgain}))
   ORDER BY ${lastOfUse}, c."imageId" LIMIT 1 FOR UPDATE OF c`,
);

/** Pools with a copy that may go, so many at a time. */
export const poolsWithUnused = written<{ id: string }, { unusedForSeconds: number }>(
  `SELECT DISTINCT p.id FROM "imageCache" c JOIN "storagePool" p ON p.id = c."poolId"
   WHERE p.state = 'ready' AND p."deletedAt" IS NULL AND c.state = 'ready' AND NOT ${copyIsUsed}
     AND ${lastOfUse} < now() - make_interval(secs => $unusedForSeconds) ORDER BY p.id LIMIT 100`,
);

/** Answers a row when it may still go: a volume may have come to live on it since. */
export const beginRemoval = written<unknown, OwnCopy>(
  `UPDATE "imageCache" c SET state = 'removing', "operationId" = $operationId
   WHERE c."imageId" = $imageId AND c."poolId" = $poolId AND c.state = 'ready' AND NOT ${copyIsUsed} RETURNING 1`,
);

const takingOver = (which: string): string =>
  `UPDATE "imageCache" c SET "operationId" = $operationId WHERE c."poolId" = $poolId ${which} AND c.state = 'removing'
     AND (c."operationId" = $operationId OR NOT EXISTS (SELECT 1 FROM "operation" o WHERE o.id = c."operationId" AND o."endedAt" IS NULL))
   RETURNING c."imageId"`;

/** Copies whose removal was begun, by an earlier attempt of this operation or by one that has ended without finishing it. */
export const takeOverRemovals = written<{ imageId: string }, Omit<OwnCopy, 'imageId'>>(takingOver(''));
export const takeOverRemoval = written<{ imageId: string }, OwnCopy>(takingOver('AND c."imageId" = $imageId'));

const own = (p: Values<OwnCopy>) => ({ imageId: p.imageId, poolId: p.poolId, operationId: p.operationId });
const caching = (p: Values<OwnCopy>) => ({ ...own(p), state: 'caching' as const });
const removing = (p: Values<OwnCopy>) => ({ ...own(p), state: 'removing' as const });

/** The import is whole. */
export const importedCopy = statement((p: Values<OwnCopy>) =>
  from
    .updateTable('imageCache')
    .set({ state: 'ready', lastUsedAt: now })
    .where((eb) => eb.and(own(p))),
);

export const isCaching = statement((p: Values<OwnCopy>) =>
  from
    .selectFrom('imageCache')
    .select('imageId')
    .where((eb) => eb.and(caching(p))),
);

/** An import that had succeeded before it was taken back: the copy stays. */
export const keepCopy = statement((p: Values<OwnCopy>) =>
  from
    .updateTable('imageCache')
    .set({ state: 'ready' })
    .where((eb) => eb.and(caching(p))),
);

/** Something still lives on it: it stays, as one that was of use just now. */
export const stayCopy = statement((p: Values<OwnCopy>) =>
  from
    .updateTable('imageCache')
    .set({ state: 'ready', lastUsedAt: now })
    .where((eb) => eb.and(removing(p))),
);

const dropping = (which: typeof caching | typeof removing) =>
  statement((p: Values<OwnCopy>) => from.deleteFrom('imageCache').where((eb) => eb.and(which(p))));
export const dropImport = dropping(caching);
export const dropRemoved = dropping(removing);
