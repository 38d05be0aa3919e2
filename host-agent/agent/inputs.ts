import { isIP } from 'node:net';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { CallName, Calls, Nothing, TaskName, Tasks } from '../protocol.ts';
import { DISKS_MAX } from './domainXml.ts';
import { Problem } from './problem.ts';

/**
 * The shape of every input. Names go into file names, XML, monitor commands and argument lists, so each has a pattern that lets
 * nothing through which means something there. Members that are not named here are ignored, so that a newer caller is understood.
 */

const uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
/** Pools, images, snapshots, users: a letter or digit first, so that none is an option or a hidden file. */
const name = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$' });
const word = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9:_.-]{0,127}$' });
const address = Type.String({ pattern: '^[0-9A-Fa-f.:]{2,45}$' });
const monitor = Type.String({ pattern: '^(\\[[0-9A-Fa-f:]+\\]|[0-9A-Za-z.-]+)(:[0-9]{1,5})?$' });
const ovnRemote = Type.String({
  pattern: '^(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5}(,(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5})*$',
});
const base64 = Type.String({ pattern: '^[A-Za-z0-9+/]+={0,2}$', maxLength: 4096 });
const pem = Type.String({ pattern: '^-----BEGIN [A-Z ]+-----[\\s\\S]+-----END [A-Z ]+-----\\s*$', maxLength: 65536 });
const sizeGib = Type.Integer({ minimum: 1, maximum: 1 << 20 });
const limit = Type.Optional(Type.Integer({ minimum: 0 }));
const hostname = Type.String({
  pattern: '^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\\.[A-Za-z0-9-]{1,63})*$',
  maxLength: 253,
});
const url = Type.String({ pattern: '^https?://[^\\s]+$', maxLength: 4096 });
const timeoutSeconds = Type.Integer({ minimum: 1, maximum: 3600 });
const line = Type.String({ pattern: '^[^\\r\\n\\u0000]+$', maxLength: 16384 });

const nothing = Type.Unsafe<Nothing>(Type.Object({}));
const tags = Type.Object({
  id: word,
  kind: word,
  operation: word,
  revision: Type.Integer({ minimum: 0 }),
  projectId: Type.Optional(word),
});
const cephAccess = Type.Object({
  storageClusterId: uuid,
  monitors: Type.Array(monitor, { minItems: 1, maxItems: 16 }),
  fsid: uuid,
  user: name,
  key: base64,
});
const pool = { storageClusterId: uuid, pool: name };
const image = { ...pool, image: name };
const disk = Type.Object({
  ...image,
  volumeId: uuid,
  readOnly: Type.Boolean(),
  boot: Type.Boolean(),
  qos: Type.Optional(
    Type.Object({ readIops: limit, writeIops: limit, readBytesPerSec: limit, writeBytesPerSec: limit }),
  ),
});
const networkInterface = Type.Object({
  id: uuid,
  mac: Type.String({ pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$' }),
  mtu: Type.Integer({ minimum: 68, maximum: 65535 }),
});
const domain = { id: uuid };

const CALL_INPUTS = {
  'host.facts': nothing,
  'host.inventory': nothing,
  'host.metrics': nothing,
  'hypervisor.ensureConfigured': Type.Object({
    caCertificate: pem,
    certificate: pem,
    privateKey: pem,
    migrationAddress: address,
  }),
  'hypervisor.ensureUnconfigured': nothing,
  'switch.ensureConfigured': Type.Object({
    systemId: word,
    ovnRemote,
    encapsulation: Type.Union([Type.Literal('geneve'), Type.Literal('vxlan')]),
    encapAddress: address,
    integrationBridge: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,14}$' }),
    tls: Type.Union([Type.Object({ caCertificate: pem, certificate: pem, privateKey: pem }), Type.Null()]),
  }),
  'switch.ensureUnconfigured': nothing,
  'storage.ensureConnected': cephAccess,
  'storage.ensureDisconnected': Type.Object({ storageClusterId: uuid }),
  'ceph.status': Type.Object({ access: cephAccess }),
  'ceph.ensureUser': Type.Object({ access: cephAccess, user: name, pools: Type.Array(name) }),
  'ceph.ensureUserAbsent': Type.Object({ access: cephAccess, user: name }),
  'ceph.ensurePool': Type.Object({
    access: cephAccess,
    pool: name,
    deviceClass: Type.Union([name, Type.Null()]),
    replicas: Type.Integer({ minimum: 1, maximum: 10 }),
    failureDomain: Type.Union([Type.Literal('osd'), Type.Literal('host')]),
    tags,
  }),
  'ceph.ensurePoolAbsent': Type.Object({ access: cephAccess, pool: name, tags }),
  'ceph.poolStatus': Type.Object({ access: cephAccess, pool: name }),
  'rbd.ensureImage': Type.Object({ ...image, sizeGib, tags }),
  'rbd.ensureClone': Type.Object({
    ...image,
    from: Type.Object({ pool: name, image: name, snapshot: name }),
    sizeGib,
    tags,
  }),
  'rbd.ensureImageAbsent': Type.Object({ ...image, onlyOperation: Type.Optional(word) }),
  'rbd.ensureSize': Type.Object({ ...image, sizeGib, allowShrink: Type.Boolean() }),
  'rbd.ensureSnapshot': Type.Object({ ...image, snapshot: name, tags }),
  'rbd.ensureSnapshotAbsent': Type.Object({ ...image, snapshot: name }),
  'rbd.rollBack': Type.Object({ ...image, snapshot: name }),
  'rbd.ensureTrashed': Type.Object(image),
  'rbd.ensureRestored': Type.Object(image),
  'rbd.ensureExpunged': Type.Object(image),
  'rbd.watchers': Type.Object(image),
  'rbd.inventory': Type.Object(pool),
  'seed.ensure': Type.Object({
    ...image,
    tags,
    instanceId: word,
    hostname,
    sshKeys: Type.Array(line, { maxItems: 64 }),
    userData: Type.Union([Type.String({ maxLength: 1 << 20 }), Type.Null()]),
    userDataEncoding: Type.Union([Type.Literal('plain'), Type.Literal('base64')]),
  }),
  'domain.ensureDefined': Type.Object({
    ...domain,
    tags,
    hostname,
    vcpus: Type.Integer({ minimum: 1, maximum: 1024 }),
    memoryMib: Type.Integer({ minimum: 16, maximum: 1 << 25 }),
    firmware: Type.Union([Type.Literal('bios'), Type.Literal('uefi')]),
    disks: Type.Array(disk, { maxItems: DISKS_MAX }),
    seed: Type.Union([Type.Object(image), Type.Null()]),
    interfaces: Type.Array(networkInterface, { maxItems: 16 }),
  }),
  'domain.ensureRunning': Type.Object(domain),
  'domain.ensureOff': Type.Object(domain),
  'domain.ensureAbsent': Type.Object(domain),
  'domain.reset': Type.Object(domain),
  'domain.status': Type.Object(domain),
  'domain.ensureNotMigrating': Type.Object(domain),
  'domain.ensureDisk': Type.Object({ ...domain, disk }),
  'domain.ensureDiskAbsent': Type.Object({ ...domain, volumeId: uuid, mustBeThere: Type.Boolean() }),
  'domain.growDisk': Type.Object({ ...domain, volumeId: uuid, sizeGib }),
  'domain.freeze': Type.Object(domain),
  'domain.thaw': Type.Object(domain),
  'domain.serialLog': Type.Object({ ...domain, bytes: Type.Integer({ minimum: 0, maximum: 1 << 20 }) }),
  'domain.ensureEarlierSerialLog': Type.Object({ ...domain, text: Type.String({ maxLength: 1 << 20 }) }),
  'domain.ensureSerialLogAbsent': Type.Object(domain),
} satisfies { [Name in CallName]: TSchema };

const TASK_INPUTS = {
  'host.probe': nothing,
  'domain.shutDown': Type.Object({ ...domain, timeoutSeconds }),
  'domain.reboot': Type.Object({ ...domain, timeoutSeconds }),
  'image.import': Type.Object({
    ...image,
    url,
    format: Type.Union([Type.Literal('raw'), Type.Literal('qcow2')]),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    tags,
  }),
  'domain.migrate': Type.Object({
    ...domain,
    targetAddress: address,
    cephUsers: Type.Record(uuid, name),
    bandwidthBytesPerSec: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]),
    autoConverge: Type.Boolean(),
  }),
} satisfies { [Name in TaskName]: TSchema };

// What passes these checks is what the protocol calls the input: the compiler compares the two for every name.
type Agreement<
  Schemas extends Record<string, TSchema>,
  Inputs extends { [Name in keyof Schemas]: { input: unknown } },
> = {
  [Name in keyof Schemas]: Static<Schemas[Name]> extends Inputs[Name]['input'] ? true : Name;
}[keyof Schemas];
type NameThatDiffers = Exclude<Agreement<typeof CALL_INPUTS, Calls> | Agreement<typeof TASK_INPUTS, Tasks>, true>;
type None = [NameThatDiffers] extends [never] ? true : NameThatDiffers;
true satisfies None;

export function isCallName(text: string): text is CallName {
  return Object.hasOwn(CALL_INPUTS, text);
}

export function isTaskName(text: unknown): text is TaskName {
  return typeof text === 'string' && Object.hasOwn(TASK_INPUTS, text);
}

/** @throws Problem INVALID_ARGUMENT that names the member and what was expected, and never repeats a value. */
export function checkCallInput<Name extends CallName>(call: Name, input: unknown): Calls[Name]['input'] {
  return check(call, CALL_INPUTS[call], input) as Calls[Name]['input'];
}

export function checkTaskInput<Name extends TaskName>(task: Name, input: unknown): Tasks[Name]['input'] {
  return check(task, TASK_INPUTS[task], input) as Tasks[Name]['input'];
}

function check(what: string, schema: TSchema, input: unknown): unknown {
  if (!Value.Check(schema, input)) {
    const [first] = Value.Errors(schema, input);
    throw new Problem(
      'INVALID_ARGUMENT',
      `${what}: ${first?.instancePath || 'the input'} ${first?.message ?? 'is wrong'}`,
    );
  }
  const record = input as Record<string, unknown>;
  for (const member of ['migrationAddress', 'encapAddress', 'targetAddress']) {
    if (record[member] !== undefined && isIP(String(record[member])) === 0) {
      throw new Problem('INVALID_ARGUMENT', `${what}: /${member} must be an IP address`);
    }
  }
  return input;
}
