/** API keys, and the rights that come with them. */
import { timingSafeEqual } from 'node:crypto';
import type { Caller } from '../acceptance/caller.ts';
import { covers } from '../acceptance/network/cidr.ts';
import { callerOf } from '../acceptance/rights.ts';
import type { Database } from '../database/database.ts';
import { keyByAccessKey } from '../database/rights.ts';
import { from, now, secondsAgo, statement, type Values } from '../database/statement.ts';
import { hashOf } from '../database/token.ts';
import { Problem } from '../runtime/problem.ts';

/** Milliseconds a verified key is remembered; a change of keys, roles, bindings or tenants empties the memory at once. */
const rememberMs = 5_000;

/** To the minute: one write for each use of a key would be most of what the database does. */
const noteUse = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('apiKey')
    .set({ lastUsedAt: now })
    .where('id', '=', p.id)
    .where((eb) => eb.or([eb('lastUsedAt', 'is', null), eb('lastUsedAt', '<', secondsAgo(60))])),
);

export interface Authenticator {
  authenticate(authorization: string | undefined, sourceAddress: string): Promise<Caller>;
  /** Something that rights depend on has changed. */
  forget(): void;
  /** Calls back whenever rights may have changed, until what it answers is called. */
  watch(listener: () => void): () => void;
}

export function authenticator(database: Database): Authenticator {
  const memory = new Map<string, { known: Promise<Caller>; until: number }>();
  const listeners = new Set<() => void>();

  async function load(accessKey: string, secret: string): Promise<Caller> {
    const refuse = (): never => {
      throw new Problem('UNAUTHENTICATED', 'the API key is unknown, expired or switched off');
    };
    const [key] = await keyByAccessKey(database.connections, { accessKey });
    const given = Buffer.from(hashOf(secret));
    if (
      !key ||
      !timingSafeEqual(given, Buffer.from((key.secretHash ?? '').padEnd(given.length))) ||
      !key.live ||
      key.userState !== 'active'
    )
      return refuse();
    if (key.accountState === 'disabled') throw new Problem('ACCOUNT_SUSPENDED', 'the account is disabled');
    void noteUse(database.connections, { id: key.id }).catch(() => {});
    return callerOf(database.connections, key);
  }

  /** Remembers a caller for a while, and not beyond the end of anything that it may. */
  function remember(token: string, accessKey: string, secret: string): { known: Promise<Caller>; until: number } {
    const mine = { known: load(accessKey, secret), until: Date.now() + rememberMs };
    if (memory.size > 10_000) memory.clear();
    memory.set(token, mine);
    mine.known
      .then(({ key, grants }) => {
        mine.until = Math.min(mine.until, key.endsAt, ...grants.map(({ endsAt }) => endsAt));
      })
      // What failed is not remembered; those who wait for it meet the failure themselves.
      .catch(() => {
        if (memory.get(token) === mine) memory.delete(token);
      });
    return mine;
  }

  return {
    async authenticate(authorization, sourceAddress) {
      const match = /^Bearer belay_([0-9a-f]{20})_([A-Za-z0-9_-]{43})$/.exec(authorization ?? '');
      if (!match?.[1] || !match[2])
        throw new Problem('UNAUTHENTICATED', 'give an API key: Authorization: Bearer belay_…');
      const known = memory.get(match[0]);
      const entry = known && known.until > Date.now() ? known : remember(match[0], match[1], match[2]);
      const caller = await entry.known;
      const { cidrs } = caller.key;
      if (cidrs.length > 0 && !cidrs.some((cidr) => covers(cidr, sourceAddress.replace(/^::ffff:/, ''))))
        throw new Problem('UNAUTHENTICATED', 'this API key may not be used from your address');
      return caller;
    },
    forget() {
      memory.clear();
      for (const listener of listeners) listener();
    },
    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
