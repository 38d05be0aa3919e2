/** Values that are never told, kept encrypted (AES-256-GCM) under the installation's key and bound to owner and field. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { installationKey } from '../runtime/config.ts';
import type { Database, Queryable } from './database.ts';
import { from, isAmong, statement, type Values, written } from './statement.ts';

let key: Buffer | undefined;
const theKey = (): Buffer => {
  key ??= installationKey();
  return key;
};

/** The stored form: 12 bytes nonce, 16 bytes tag, ciphertext; as PostgreSQL's hex text of bytea. */
export function seal(ownerId: string, field: string, value: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', theKey(), nonce).setAAD(Buffer.from(`${ownerId}/${field}`));
  const body = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()]);
  return `\\x${Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('hex')}`;
}

function open(ownerId: string, field: string, sealed: Buffer): string {
  const decipher = createDecipheriv('aes-256-gcm', theKey(), sealed.subarray(0, 12)).setAAD(
    Buffer.from(`${ownerId}/${field}`),
  );
  decipher.setAuthTag(sealed.subarray(12, 28));
  return Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]).toString('utf8');
}

/** The value of a stored form that `seal` made. */
export const unseal = (ownerId: string, field: string, sealed: string): string =>
  open(ownerId, field, Buffer.from(sealed.slice(2), 'hex'));

/** Whose a secret is. One id alone is not enough: what one resource's end takes along must never be another's. */
export interface Owner {
  kind: string;
  id: string;
}

const secretsOf = statement((p: Values<{ ownerKind: string; ownerId: string; fields: readonly string[] }>) =>
  from
    .selectFrom('secret')
    .select(['field', 'ciphertext'])
    .where('ownerKind', '=', p.ownerKind)
    .where('ownerId', '=', p.ownerId)
    .where((eb) => isAmong(eb.ref('field'), p.fields)),
);

const write = statement((p: Values<{ ownerKind: string; ownerId: string; field: string; ciphertext: string }>) =>
  from
    .insertInto('secret')
    .values({ ownerKind: p.ownerKind, ownerId: p.ownerId, field: p.field, ciphertext: p.ciphertext })
    .onConflict((at) =>
      at
        .columns(['ownerKind', 'ownerId', 'field'])
        .doUpdateSet((eb) => ({ ciphertext: eb.ref('excluded.ciphertext') })),
    ),
);

const forgetAll = statement((p: Values<{ ownerKind: string; ownerId: string }>) =>
  from.deleteFrom('secret').where('ownerKind', '=', p.ownerKind).where('ownerId', '=', p.ownerId),
);

const forget = statement((p: Values<{ ownerKind: string; ownerId: string; fields: readonly string[] }>) =>
  from
    .deleteFrom('secret')
    .where('ownerKind', '=', p.ownerKind)
    .where('ownerId', '=', p.ownerId)
    .where((eb) => isAmong(eb.ref('field'), p.fields)),
);

/** Those of the named secrets that an owner has, as they are at one moment. */
export async function readSecrets<Field extends string>(
  on: Queryable,
  owner: Owner,
  fields: readonly Field[],
): Promise<Partial<Record<Field, string>>> {
  const rows = await secretsOf(on, { ownerKind: owner.kind, ownerId: owner.id, fields });
  const known: Partial<Record<Field, string>> = {};
  for (const { field, ciphertext } of rows) known[field as Field] = open(owner.id, field, ciphertext);
  return known;
}

const manyAtOnce = 500;

const secretsOfKind = statement((p: Values<{ ownerKind: string; field: string; after: string }>) =>
  from
    .selectFrom('secret')
    .select(['ownerId', 'ciphertext'])
    .where('ownerKind', '=', p.ownerKind)
    .where('field', '=', p.field)
    .where('ownerId', '>', p.after)
    .orderBy('ownerId')
    .limit(manyAtOnce),
);

/** That secret of all owners of a kind that have it, in pages: there may be a hundred thousand. */
export async function* secretsOfAll(
  on: Queryable,
  ownerKind: string,
  field: string,
): AsyncGenerator<{ ownerId: string; value: string }> {
  let page = await secretsOfKind(on, { ownerKind, field, after: '00000000-0000-0000-0000-000000000000' });
  for (;;) {
    for (const { ownerId, ciphertext } of page) yield { ownerId, value: open(ownerId, field, ciphertext) };
    const last = page.at(-1);
    if (!last || page.length < manyAtOnce) return;
    page = await secretsOfKind(on, { ownerKind, field, after: last.ownerId });
  }
}

const secretAt = statement((p: Values<{ ownerKind: string; ownerId: string; field: string }>) =>
  from
    .selectFrom('secret')
    .select('field')
    .where('ownerKind', '=', p.ownerKind)
    .where('ownerId', '=', p.ownerId)
    .where('field', '=', p.field),
);

export const hasSecret = async (on: Queryable, { kind, id }: Owner, field: string): Promise<boolean> =>
  (await secretAt(on, { ownerKind: kind, ownerId: id, field })).length > 0;

/** The secret of an owner, or null. */
export const readSecret = async (database: Database, owner: Owner, field: string): Promise<string | null> =>
  (await readSecrets(database.connections, owner, [field]))[field] ?? null;

export async function writeSecret(on: Queryable, owner: Owner, field: string, value: string): Promise<void> {
  await write(on, { ownerKind: owner.kind, ownerId: owner.id, field, ciphertext: seal(owner.id, field, value) });
}

/** Two who make the same secrets at once come one after the other. */
export const lockSecrets = written<never, { key: string }>('SELECT pg_advisory_xact_lock(hashtextextended($key, 0))');

/** Forgets the secrets of an owner; all of them, or those of the named fields. */
export async function forgetSecrets(on: Queryable, owner: Owner, fields: string[] | null = null): Promise<void> {
  const whose = { ownerKind: owner.kind, ownerId: owner.id };
  if (fields) await forget(on, { ...whose, fields });
  else await forgetAll(on, whose);
}
