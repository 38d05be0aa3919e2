/** Credentials of hosts: where they are used, and which are old. */
import { isHeld } from './givingWay.ts';
import { written } from './statement.ts';

export const entryOf = written<
  { address: string; sshPort: number; sshUser: string; sshHostKey: string | null; hasBmc: boolean },
  { hostId: string }
>(
  `SELECT address, "sshPort", "sshUser", "sshHostKey", bmc IS NOT NULL AS "hasBmc" FROM "host" WHERE id = $hostId AND "deletedAt" IS NULL`,
);

export const noteRotated = written<unknown, { hostId: string; operationId: string }>(
  `UPDATE "host" h SET "credentialsRotatedAt" = now() WHERE h.id = $hostId AND ${isHeld('h')}`,
);

/** Answers a row while the operation holds the host; nobody else comes to hold it meanwhile. */
export const holdsHost = written<unknown, { hostId: string; operationId: string }>(
  `SELECT 1 FROM "host" h WHERE h.id = $hostId AND ${isHeld('h')} FOR UPDATE`,
);

/** Credentials changed by themselves are asked for every hour, and twice as many hosts as it takes to come around in time. */
const runsInDay = 24 / 2;

/** Those that nobody has tried for the longest: one that fails each time keeps none from its turn. */
export const toRotate = written<{ id: string }, { least: number; most: number }>(
  `WITH s AS MATERIALIZED (SELECT (value #>> '{}')::int AS days FROM "setting" WHERE name = 'host.rotateCredentialsDays')
   SELECT h.id FROM "host" h,
     LATERAL (SELECT max(o."createdAt") AS "triedAt" FROM "operation" o WHERE o."targetId" = h.id AND o.type = 'host.rotateCredentials') tried
   WHERE (SELECT days FROM s) > 0 AND h."deletedAt" IS NULL AND h.state IN ('active', 'maintenance') AND h.connection = 'connected'
     AND h."currentOperationId" IS NULL
     AND coalesce(h."credentialsRotatedAt", h."createdAt") < now() - make_interval(days => (SELECT days FROM s))
   ORDER BY tried."triedAt" NULLS FIRST, coalesce(h."credentialsRotatedAt", h."createdAt"), h.id
   LIMIT (SELECT least($most::int, greatest($least::int, ceil(count(*) / (greatest((SELECT days FROM s), 1) * ${runsInDay}.0))::int))
     FROM "host" all_hosts WHERE all_hosts."deletedAt" IS NULL)`,
);
