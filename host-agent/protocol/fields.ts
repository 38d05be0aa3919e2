/**
 * Fields that many inputs share. Names go into file names, XML, monitor commands and argument lists, so each has a pattern that lets nothing
 * through which means something there.
 *
 * Sizes: GiB are integers of 2^30 bytes, MiB of 2^20.
 */
import { isIP } from 'node:net';
import type { Static } from 'typebox';
import * as Type from 'typebox';
import { type Of, object } from './call.ts';

const UUID = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
export const uuid = Type.String({ pattern: UUID });
/** Pools, images, snapshots, users: a letter or digit first, so that none is an option or a hidden file. */
export const name = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$' });
export const word = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9:_.-]{0,127}$' });
export const ipAddress = Type.Refine(
  Type.String({ pattern: '^[0-9A-Fa-f.:]{2,45}$' }),
  (text) => isIP(text) !== 0,
  () => 'must be an IP address',
);
export const hostname = Type.String({
  pattern: '^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\\.[A-Za-z0-9-]{1,63})*$',
  maxLength: 253,
});
export const base64 = Type.String({ pattern: '^[A-Za-z0-9+/]+={0,2}$', maxLength: 4096 });
export const pem = Type.String({
  pattern: '^-----BEGIN [A-Z ]+-----[^\\u0000]+-----END [A-Z ]+-----\\s*$',
  maxLength: 65536,
});
export const url = Type.String({ pattern: '^https?://[^\\s\\u0000]+$', maxLength: 4096 });
export const line = Type.String({ pattern: '^[^\\r\\n\\u0000]+$', maxLength: 16384 });
export const sizeGib = Type.Integer({ minimum: 1, maximum: 1 << 20 });
export const timeoutSeconds = Type.Integer({ minimum: 1, maximum: 3600 });

/** The same for whatever may be missing: null says so. */
export const orNull = <Schema extends Type.TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** By ids. Typebox's own `Record` would make the agent's bundle a third larger. */
export const byId = <Schema extends Type.TSchema>(schema: Schema) =>
  Type.Unsafe<Record<string, Static<Schema>>>({
    type: 'object',
    patternProperties: { [UUID]: schema },
    additionalProperties: false,
  });

/** Leads an object on a real system back to its record, and to the operation that made it. */
export const tags = object({
  id: word,
  kind: word,
  operation: word,
  revision: Type.Integer({ minimum: 0 }),
  projectId: Type.Optional(word),
});
export type Tags = Static<typeof tags>;

/** As found on a real system, where anybody may have written them. */
export const foundTags = object({
  id: Type.Optional(Type.String()),
  kind: Type.Optional(Type.String()),
  operation: Type.Optional(Type.String()),
  revision: Type.Optional(Type.Number()),
  projectId: Type.Optional(Type.String()),
});

/** A pool of a storage cluster that this host was connected to by `storage.ensureConnected`. */
export const pool = { storageClusterId: uuid, pool: name };
export type PoolAddress = Of<typeof pool>;

export const image = { ...pool, image: name };
export type ImageAddress = Of<typeof image>;

/** What a guest finds at its first boot, by NoCloud. User data is a secret of the tenant. */
export const seedData = {
  instanceId: word,
  hostname,
  sshKeys: Type.Array(line, { maxItems: 64 }),
  userData: orNull(Type.String({ maxLength: 1 << 20 })),
  /** base64: user data stands for bytes, which are what the guest finds. */
  userDataEncoding: Type.Enum(['plain', 'base64']),
};
export type SeedData = Of<typeof seedData>;

/** What a guest's host opens as a disk, by what the pool is made of. */
export const diskSource = Type.Union([
  object({ type: Type.Literal('rbd'), ...image }),
  /** In a pool of files that this host was connected to by `files.ensureConnected`. */
  object({ type: Type.Literal('file'), poolId: uuid, of: Type.Enum(['volume', 'image', 'seed']), id: uuid }),
  /** A logical volume of LVM. */
  object({ type: Type.Literal('block'), volumeGroup: name, volume: name }),
]);
export type DiskSource = Static<typeof diskSource>;

/** An instance as its host knows it. */
export const domain = { id: uuid };

export const domainState = Type.Enum(['absent', 'off', 'running', 'paused', 'crashed']);
export type DomainState = Static<typeof domainState>;

export const domainStatus = {
  state: domainState,
  /** libvirt's reason word, such as `shutdown`, `destroyed`, `crashed`, `migrated`, `ioerror`. */
  reason: Type.String(),
};
export type DomainStatus = Of<typeof domainStatus>;
