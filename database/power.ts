/** BMCs of hosts, as the records have them, and what they said of the power. */
import { kindOf } from '../model/kinds.ts';
import type { BmcProtocol } from '../model/platform/power.ts';
import { toldColumns } from './events.ts';
import { written } from './statement.ts';

export interface BmcRecord {
  protocol: BmcProtocol;
  address: string;
  port?: number;
  user: string;
  certificate?: string;
  system?: string;
}

export interface PoweredHost {
  id: string;
  name: string;
  state: string;
  connection: 'connected' | 'degraded' | 'disconnected';
  bmc: BmcRecord | null;
  /** In the form of `seal`; of the same moment as the BMC that it opens. */
  sealedPassword: string | null;
  bmcDisprovedAt: Date | null;
  powerState: 'on' | 'off' | 'unknown';
  /** It is shut out of its storage, or dead. */
  isOut: boolean;
}

export const bmcOf = written<PoweredHost, { hostId: string }>(
  `SELECT h.id, h.name, h.state, h.connection, h.bmc, h."bmcDisprovedAt", h."powerState", h."fencedAt" IS NOT NULL OR h."deadAt" IS NOT NULL AS "isOut",
     '\\x' || encode(s.ciphertext, 'hex') AS "sealedPassword"
   FROM "host" h LEFT JOIN "secret" s ON s."ownerKind" = 'host' AND s."ownerId" = h.id AND s.field = 'bmcPassword'
   WHERE h.id = $hostId AND h."deletedAt" IS NULL`,
);

/** The BMC that was asked, as the records had it then. */
export interface AskedBmc {
  hostId: string;
  /** In JSON. */
  bmc: string;
}

/** It is that of the host still. Its certificate may have been pinned meanwhile. */
const isSame = `"deletedAt" IS NULL AND bmc - 'certificate' = $bmc::jsonb - 'certificate'`;

/** At first contact, unless it is another BMC by now or has one. Answers which certificate is pinned. */
export const pinCertificate = written<{ certificate: string }, AskedBmc & { certificate: string }>(
  `UPDATE "host" SET bmc = bmc || jsonb_build_object('certificate', coalesce(bmc->>'certificate', $certificate::text)),
     revision = revision + CASE WHEN bmc->>'certificate' IS NULL THEN 1 ELSE 0 END,
     "updatedAt" = CASE WHEN bmc->>'certificate' IS NULL THEN now() ELSE "updatedAt" END
   WHERE id = $hostId AND ${isSame} RETURNING bmc->>'certificate' AS certificate`,
);

const told = toldColumns(kindOf('host'));
const before = `WITH before AS (SELECT b.id AS "beforeId", b."powerState" AS was FROM "host" b WHERE b.id = $hostId FOR UPDATE)`;

/**
 * What a BMC has said, or that it said nothing. Of one that was changed or removed meanwhile nothing is noted. That it was asked is no change that anybody
 * has to be told of.
 */
export const notePower = written<{ changed: boolean }, AskedBmc & { powerState: 'on' | 'off' | 'unknown' }>(
  `${before}
   UPDATE "host" h SET "powerState" = $powerState, "powerObservedAt" = now(),
     revision = revision + CASE WHEN was = $powerState THEN 0 ELSE 1 END,
     "updatedAt" = CASE WHEN was = $powerState THEN h."updatedAt" ELSE now() END
   FROM before WHERE h.id = before."beforeId" AND ${isSame} RETURNING was <> $powerState AS changed, ${told}`,
);

/** It said that a host is off that was seen: from now on nobody believes it. Answers a row when that is new. */
export const disproveBmc = written<{ changed: boolean }, AskedBmc>(
  `${before}
   UPDATE "host" h SET "bmcDisprovedAt" = now(), "powerState" = 'unknown', "powerObservedAt" = now(), revision = revision + 1, "updatedAt" = now()
   FROM before WHERE h.id = before."beforeId" AND ${isSame} AND h."bmcDisprovedAt" IS NULL RETURNING was <> 'unknown' AS changed, ${told}`,
);

const isAsked = `bmc IS NOT NULL AND "bmcDisprovedAt" IS NULL AND "deletedAt" IS NULL AND state <> 'deleting'`;

/** Hosts with a BMC that is believed, those first that were asked the longest ago. */
export const hostsWithBmc = written<{ id: string; bmc: BmcRecord }, { least: number; most: number; runs: number }>(
  `SELECT id, bmc FROM "host" WHERE ${isAsked} ORDER BY "powerObservedAt" NULLS FIRST, id
   LIMIT (SELECT least($most::int, greatest($least::int, ceil(count(*) / $runs::numeric)::int)) FROM "host" WHERE ${isAsked})`,
);

/** Those that did not answer when they were asked last, whoever asked them. */
export const countSilentBmcs = written<{ silent: number }>(
  `SELECT count(*)::int AS silent FROM "host" WHERE ${isAsked} AND "powerState" = 'unknown' AND "powerObservedAt" IS NOT NULL`,
);

/** Whatever has a place on a host. */
export const guestsOf = written<{ id: string; name: string }, { hostId: string }>(
  `SELECT i.id, i.name FROM "hostClaim" c JOIN "instance" i ON i.id = c."instanceId" WHERE c."hostId" = $hostId ORDER BY i.name, i.id LIMIT 20`,
);

/**
 * Its BMC says that it is off after it was switched off for its failover, and nobody sees it: it is as dead as one of which a person says so. Answers
 * nothing when it was heard meanwhile, or has another BMC.
 */
export const noteCut = written<{ changed: boolean }, AskedBmc & { operationId: string }>(
  `${before}
   UPDATE "host" h SET "deadAt" = coalesce(h."deadAt", now()), "powerState" = 'off', "powerObservedAt" = now(), revision = revision + 1, "updatedAt" = now()
   FROM before WHERE h.id = before."beforeId" AND ${isSame} AND h."bmcDisprovedAt" IS NULL AND h.connection = 'disconnected'
     AND h."currentOperationId" = $operationId RETURNING was <> 'off' AS changed, ${told}`,
);

/** Whoever is at work on a host; nobody begins until the transaction ends. */
export const heldBy = written<{ operationId: string | null }, { hostId: string }>(
  `SELECT "currentOperationId" AS "operationId" FROM "host" WHERE id = $hostId FOR UPDATE`,
);
