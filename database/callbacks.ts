/** What the API promises and the dispatcher keeps: a signed message when an operation has ended. */
import { randomBytes } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';
import { ipv4Of, ipv6Of } from '../model/forms.ts';
import { Problem } from '../runtime/problem.ts';
import type { Queryable } from './database.ts';
import { settingOf } from './settings.ts';
import { written } from './statement.ts';

/** Under which name an API key's signing secret is kept. */
export const callbackSecretField = 'callbackSecret';

/** In the form of Standard Webhooks: `whsec_` and 32 random bytes in base64. */
export const newCallbackSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;

/** Networks that callbacks never go to, as the setting has them now. */
export async function deniedNetworks(on: Queryable): Promise<BlockList> {
  const [setting] = await settingOf(on, { name: 'callback.deniedNetworks' });
  const list = new BlockList();
  for (const cidr of (setting?.value ?? []) as string[]) {
    const [network = '', bits = ''] = cidr.split('/');
    list.addSubnet(network, Number(bits), isIPv6(network) ? 'ipv6' : 'ipv4');
  }
  return list;
}

const dotted = (bits: number): string => [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.');

/**
 * The IPv4 address that an IPv6 one leads to: mapped and compatible ones (RFC 4291), those of a translator (RFC 6052), of 6to4 (RFC 3056) and of
 * Teredo (RFC 4380). Null for one that leads to none.
 */
export function innerIpv4(address: string): string | null {
  const bits = ipv6Of(address)?.bits;
  if (bits === undefined) return null;
  const part = (shift: bigint): number => Number((bits >> shift) & 0xffff_ffffn);
  const [upper, lower] = [bits >> 32n, part(0n)];
  // ::/96, ::ffff:0:0/96, and 64:ff9b::/96.
  if (upper === 0n || upper === 0xffffn || upper === 0x64_ff9bn << 64n) return dotted(lower);
  if (bits >> 112n === 0x2002n) return dotted(part(80n));
  if (bits >> 96n === 0x2001_0000n) return dotted(~lower >>> 0);
  return null;
}

export function isDenied(list: BlockList, address: string): boolean {
  const [bare = ''] = address.split('%');
  if (isIPv4(bare)) return list.check(bare, 'ipv4');
  const inner = innerIpv4(bare);
  return list.check(bare, 'ipv6') || (inner !== null && ipv4Of(inner) !== null && list.check(inner, 'ipv4'));
}

/** So long a name may take to resolve while its caller waits. */
const resolvePatienceMs = 1_500;

/** What a name resolves to now; nothing when that can not be said. */
async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host)) return [host];
  // RFC 6761: no server is asked for these.
  if (/(^|\.)localhost\.?$/i.test(host)) return ['127.0.0.1', '::1'];
  const resolver = new Resolver({ timeout: resolvePatienceMs, tries: 1 });
  const found = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
  return found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
}

/**
 * Refuses a callback that could not go anywhere, before anything is accepted. What a name resolves to may change: it is looked at again when
 * the callback is sent.
 *
 * @throws Problem INVALID_ARGUMENT
 */
export async function refuseDenied(on: Queryable, url: string): Promise<void> {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  const [list, addresses] = await Promise.all([deniedNetworks(on), addressesOf(host)]);
  if (addresses.length === 0 || !addresses.every((address) => isDenied(list, address))) return;
  throw new Problem('INVALID_ARGUMENT', 'Belay-Callback-Url is in a network that callbacks do not go to', {
    violations: [{ field: 'Belay-Callback-Url', message: 'is in a network that callbacks do not go to' }],
  });
}

export interface DueCallback {
  operationId: string;
  apiKeyId: string;
  accountId: string;
  url: string;
  attempts: number;
}

/**
 * Takes callbacks that are due: their operation has ended, and their pause is over. Accounts take turns: the first callback of every account comes
 * before the second of any, and no account gets more than its places. The rows stay locked, so another dispatcher passes over them. Accounts are
 * found one after the other by index, each behind the one before it.
 */
export const takeCallbacks = written<
  DueCallback,
  {
    finals: readonly string[];
    pausesSeconds: number[];
    places: number;
    ofAccountAtOnce: number;
    takenAccountIds: string[];
    takenPlaces: number[];
  }
>(
  `WITH RECURSIVE waiting AS (
     (SELECT "accountId" FROM "callback" ORDER BY "accountId" LIMIT 1)
     UNION ALL
     SELECT (SELECT c."accountId" FROM "callback" c WHERE c."accountId" > w."accountId" ORDER BY c."accountId" LIMIT 1)
     FROM waiting w WHERE w."accountId" IS NOT NULL
   ), taken AS (SELECT unnest($takenAccountIds::uuid[]) AS "accountId", unnest($takenPlaces::int[]) AS places
   ), ready AS MATERIALIZED (
     SELECT mine."operationId" FROM waiting w LEFT JOIN taken t ON t."accountId" = w."accountId" CROSS JOIN LATERAL (
       SELECT f."operationId", row_number() OVER (ORDER BY f."nextAttemptAt") AS round FROM (
         SELECT c."operationId", c."nextAttemptAt" FROM "callback" c JOIN "operation" o ON o.id = c."operationId"
         WHERE c."accountId" = w."accountId" AND c."nextAttemptAt" <= now() AND o.state = ANY($finals::text[])
         ORDER BY c."nextAttemptAt" LIMIT $ofAccountAtOnce::int - coalesce(t.places, 0) FOR UPDATE OF c SKIP LOCKED) f) mine
     WHERE w."accountId" IS NOT NULL ORDER BY mine.round, random() LIMIT $places)
   UPDATE "callback" c SET attempts = c.attempts + 1,
     "nextAttemptAt" = now() + make_interval(secs => ($pausesSeconds::int[])[least(c.attempts + 1, cardinality($pausesSeconds::int[]))])
   FROM ready WHERE c."operationId" = ready."operationId" RETURNING c."operationId", c."apiKeyId", c."accountId", c.url, c.attempts`,
);
