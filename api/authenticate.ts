/** API keys, and the rights that come with them. */
import { timingSafeEqual } from 'node:crypto';
import type { Caller, Grant, Reach } from '../acceptance/caller.ts';
import type { Database } from '../database/database.ts';
import { run } from '../database/database.ts';
import { hashOf } from '../database/installation.ts';
import { Problem } from '../runtime/problem.ts';

interface KeyRow {
  id: string;
  secretHash: string;
  userId: string;
  accountId: string;
  permissions: string[];
  allowedCidrs: string[];
  accountState: string;
  userState: string;
  live: boolean;
}

/** Seconds a verified key is remembered; a change of keys, roles, bindings or tenants empties the memory at once. */
const rememberMs = 5_000;

export interface Authenticator {
  authenticate(authorization: string | undefined, sourceAddress: string): Promise<Caller>;
  /** Something that rights depend on has changed. */
  forget(): void;
}

export function authenticator(database: Database): Authenticator {
  const memory = new Map<string, { known: Promise<{ caller: Caller; cidrs: string[] }>; until: number }>();

  async function load(accessKey: string, secret: string): Promise<{ caller: Caller; cidrs: string[] }> {
    const refuse = (): never => {
      throw new Problem('UNAUTHENTICATED', 'the API key is unknown, expired or switched off');
    };
    const [key] = await run<KeyRow>(
      database.pool,
      `SELECT k.id, k."secretHash", k."userId", k."accountId", k.permissions, k."allowedCidrs", a.state AS "accountState", u.state AS "userState",
              (k.enabled AND (k."expiresAt" IS NULL OR k."expiresAt" > now())) AS live
       FROM "apiKey" k JOIN "user" u ON u.id = k."userId" AND u."deletedAt" IS NULL JOIN "account" a ON a.id = k."accountId" AND a."deletedAt" IS NULL
       WHERE k."accessKey" = $1 AND k."deletedAt" IS NULL`,
      [accessKey],
    );
    const given = Buffer.from(hashOf(secret));
    if (
      !key ||
      !timingSafeEqual(given, Buffer.from(key.secretHash.padEnd(given.length))) ||
      !key.live ||
      key.userState !== 'active'
    )
      return refuse();
    if (key.accountState === 'disabled') throw new Problem('ACCOUNT_SUSPENDED', 'the account is disabled');
    const grants = await run<Grant>(
      database.pool,
      `SELECT b."targetKind", b."targetId", r.permissions AS rules FROM "roleBinding" b JOIN "role" r ON r.id = b."roleId"
       WHERE b."deletedAt" IS NULL AND (b."expiresAt" IS NULL OR b."expiresAt" > now())
         AND ((b."subjectKind" = 'user' AND b."subjectId" = $1) OR (b."subjectKind" = 'account' AND b."subjectId" = $2) OR b."subjectKind" = 'everyone'
           OR (b."subjectKind" = 'project' AND b."subjectId" IN (
             SELECT "targetId" FROM "roleBinding" WHERE "subjectId" = $1 AND "targetKind" = 'project' AND "deletedAt" IS NULL)))`,
      [key.userId, key.accountId],
    );
    void run(
      database.pool,
      `UPDATE "apiKey" SET "lastUsedAt" = now() WHERE id = $1 AND ("lastUsedAt" IS NULL OR "lastUsedAt" < now() - interval '1 minute')`,
      [key.id],
    ).catch(() => {});
    return {
      caller: {
        userId: key.userId,
        apiKeyId: key.id,
        accountId: key.accountId,
        locked: key.accountState === 'locked',
        keyPatterns: key.permissions,
        grants,
        reach: await reachOf(database, grants),
        scopes: new Map(),
      },
      cidrs: key.allowedCidrs,
    };
  }

  return {
    async authenticate(authorization, sourceAddress) {
      const match = /^Bearer belay_([0-9a-f]{20})_([A-Za-z0-9_-]{43})$/.exec(authorization ?? '');
      if (!match?.[1] || !match[2])
        throw new Problem('UNAUTHENTICATED', 'give an API key: Authorization: Bearer belay_…');
      const token = match[0];
      let entry = memory.get(token);
      if (!entry || entry.until < Date.now()) {
        const mine = { known: load(match[1], match[2]), until: Date.now() + rememberMs };
        if (memory.size > 10_000) memory.clear();
        memory.set(token, mine);
        // What failed is not remembered; those who wait for it meet the failure themselves.
        mine.known.catch(() => {
          if (memory.get(token) === mine) memory.delete(token);
        });
        entry = mine;
      }
      const { caller, cidrs } = await entry.known;
      if (cidrs.length > 0 && !cidrs.some((cidr) => contains(cidr, sourceAddress)))
        throw new Problem('UNAUTHENTICATED', 'this API key may not be used from your address');
      return caller;
    },
    forget: () => memory.clear(),
  };
}

/** Everything below each target: a binding at a domain reaches its subdomains, their accounts and their projects. */
async function reachOf(database: Database, grants: Grant[]): Promise<Map<string, Reach>> {
  const reach = new Map<string, Reach>();
  for (const { targetKind, targetId } of grants) {
    const key = `${targetKind}/${targetId}`;
    if (!targetId || reach.has(key) || !['domain', 'account', 'project'].includes(targetKind)) continue;
    const rows = await run<{ domainId: string | null; accountId: string | null; projectId: string | null }>(
      database.pool,
      targetKind === 'domain'
        ? `SELECT d.id AS "domainId", a.id AS "accountId", p.id AS "projectId" FROM "domain" t JOIN "domain" d ON d.path = t.path OR d.path LIKE t.path || '/%'
           LEFT JOIN "account" a ON a."domainId" = d.id LEFT JOIN "project" p ON p."accountId" = a.id WHERE t.id = $1`
        : targetKind === 'account'
          ? `SELECT NULL AS "domainId", a.id AS "accountId", p.id AS "projectId" FROM "account" a LEFT JOIN "project" p ON p."accountId" = a.id WHERE a.id = $1`
          : `SELECT NULL AS "domainId", NULL AS "accountId", p.id AS "projectId" FROM "project" p WHERE p.id = $1`,
      [targetId],
    );
    const unique = (key2: 'domainId' | 'accountId' | 'projectId'): string[] => [
      ...new Set(rows.flatMap((row) => row[key2] ?? [])),
    ];
    reach.set(key, { domains: unique('domainId'), accounts: unique('accountId'), projects: unique('projectId') });
  }
  return reach;
}

const numberOf = (address: string): number | null => {
  const parts = address.replace(/^::ffff:/, '').split('.');
  return parts.length === 4 ? parts.reduce((sum, part) => sum * 256 + Number(part), 0) : null;
};

function contains(cidr: string, address: string): boolean {
  const [network, bits] = cidr.split('/');
  const a = numberOf(network ?? '');
  const b = numberOf(address);
  if (a === null || b === null) return false;
  const size = 2 ** (32 - Number(bits));
  return Math.floor(a / size) === Math.floor(b / size);
}
