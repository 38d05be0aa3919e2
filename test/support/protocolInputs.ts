/** One right input for every call and task of the protocol, and every way to make it a wrong one. */
import { randomUUID } from 'node:crypto';
import type { Calls, CephAccess, DomainSpec, ImageAddress, Tags, Tasks } from '../../host-agent/protocol.ts';

/** What the calls are about, where they are really made. */
export interface Subject {
  /** The administrator's way to a storage cluster, under an id that nobody else uses. */
  access: CephAccess;
  pool: string;
  /** To be fetched, and to be booted where guests are real. */
  source: Pick<Tasks['image.import']['input'], 'url' | 'format' | 'sha256'>;
  hypervisor: Calls['hypervisor.ensureConfigured']['input'];
  switch: Calls['switch.ensureConfigured']['input'];
  /** A directory of the host for a pool of files; it is there, and empty. */
  filesPath: string;
  /** Where guests may go. */
  targetAddress: string;
}

export type Inputs = { [Name in keyof Calls]: Calls[Name]['input'] } & {
  [Name in keyof Tasks]: Tasks[Name]['input'];
};

const operation = 'contract';

export function rightInputs({
  access,
  pool,
  source,
  hypervisor,
  switch: localSwitch,
  targetAddress,
  filesPath,
}: Subject): Inputs {
  const { storageClusterId } = access;
  const id = randomUUID();
  const volumeId = randomUUID();
  const interfaceId = randomUUID();
  const user = `contract-${storageClusterId}`;
  const image = (name: string): ImageAddress => ({ storageClusterId, pool, image: name });
  const tags = (kind: string, of: string): Tags => ({ id: of, kind, operation, revision: 1, projectId: 'contract' });
  const [root, data, seed, cached] = [image('root'), image('data'), image('seed'), image('cached')];
  const domain = { id };
  const qos = { readIops: 5_000, writeIops: 5_000, readBytesPerSec: 1 << 30, writeBytesPerSec: 1 << 30 };
  const spec: DomainSpec = {
    ...domain,
    tags: tags('instance', id),
    hostname: 'contract',
    vcpus: 1,
    memoryMib: 128,
    firmware: 'bios',
    disks: [{ source: { type: 'rbd', ...root }, volumeId: randomUUID(), readOnly: false, boot: true, qos }],
    seed: { type: 'rbd', ...seed },
    interfaces: [{ id: randomUUID(), mac: '02:be:1a:00:00:01', mtu: 1442 }],
  };
  const files = { poolId: randomUUID() };
  const filesRoot = { type: 'local', path: filesPath } as const;
  const fileVolume = { ...files, id: randomUUID() };
  const [fileClone, fileImage, snapshot] = [randomUUID(), randomUUID(), `snap-${randomUUID()}`];
  const hosts: [string, string] = [randomUUID(), randomUUID()];
  const places = [{ type: 'rbd' as const, storageClusterId, pool }];
  const firstBoot = {
    instanceId: id,
    hostname: 'contract',
    sshKeys: ['ssh-ed25519 AAAA of the contract'],
    userData: '#!/bin/sh\ntrue\n',
    userDataEncoding: 'plain' as const,
  };
  return {
    'heartbeat.ensure': { hostId: hosts[0], places },
    'heartbeat.watch': { hostIds: hosts, places, withinMs: 5_000 },
    'peer.probe': { addresses: [{ address: targetAddress, port: 22 }], withinMs: 1_000 },
    'host.facts': {},
    'host.inventory': {},
    'host.metrics': {},
    'host.boot': {},
    'host.reboot': { bootId: randomUUID() },
    'host.probe': {},
    'hypervisor.ensureConfigured': hypervisor,
    'hypervisor.ensureUnconfigured': {},
    'switch.ensureConfigured': localSwitch,
    'switch.ensureUnconfigured': {},
    'switch.bridges': { names: ['br-phy', 'missing'] },
    'switch.ensureMapping': { physicalNetworkId: files.poolId, bridge: 'br-phy' },
    'switch.ensureMappingAbsent': { physicalNetworkId: files.poolId },
    'storage.ensureConnected': access,
    'storage.ensureDisconnected': { storageClusterId },
    'ceph.status': { access },
    'ceph.ensureUser': { access, user, pools: [pool] },
    'ceph.ensureUserAbsent': { access, user },
    'ceph.ensureFenced': { access, addresses: ['192.0.2.77'] },
    'ceph.ensureUnfenced': { access, addresses: ['192.0.2.77'] },
    'ceph.fenced': { access },
    'rbd.proveWritable': { storageClusterId, pool },
    'ceph.ensurePool': {
      access,
      pool,
      deviceClass: null,
      replicas: 1,
      failureDomain: 'osd',
      tags: tags('storagePool', pool),
    },
    'ceph.ensurePoolAbsent': { access, pool, tags: tags('storagePool', pool) },
    'ceph.poolStatus': { access, pool },
    'image.import': { ...cached, ...source, tags: tags('image', 'cached') },
    'rbd.ensureClone': {
      ...root,
      from: { pool, image: cached.image, snapshot: 'base' },
      sizeGib: 1,
      tags: tags('volume', 'root'),
    },
    'rbd.ensureImage': { ...data, sizeGib: 1, tags: tags('volume', 'data') },
    'rbd.ensureImageAbsent': { ...data, onlyOperation: operation },
    'rbd.ensureSize': { ...data, sizeGib: 2, allowShrink: false },
    'rbd.ensureSnapshot': { ...data, snapshot: 'kept', tags: tags('snapshot', 'kept') },
    'rbd.ensureSnapshotAbsent': { ...data, snapshot: 'kept' },
    'rbd.rollBack': { ...data, snapshot: 'kept' },
    'rbd.ensureTrashed': data,
    'rbd.ensureRestored': data,
    'rbd.ensureExpunged': data,
    'rbd.watchers': data,
    'rbd.inventory': { storageClusterId, pool },
    'files.ensureConnected': { ...files, root: filesRoot, make: true },
    'files.ensureDisconnected': files,
    'files.ensurePoolAbsent': { ...files, root: filesRoot },
    'files.status': files,
    'files.import': { ...files, id: fileImage, ...source, tags: tags('image', fileImage) },
    'files.ensureVolume': { ...fileVolume, sizeGib: 1, tags: tags('volume', fileVolume.id) },
    'files.ensureClone': {
      ...files,
      id: fileClone,
      from: { image: fileImage },
      sizeGib: 1,
      tags: tags('volume', fileClone),
    },
    'files.ensureAbsent': { ...fileVolume, of: 'volume', onlyOperation: operation },
    'files.ensureSize': { ...fileVolume, sizeGib: 2, allowShrink: false },
    'files.ensureSnapshot': { ...fileVolume, snapshot, tags: tags('snapshot', snapshot), guest: id },
    'files.ensureSnapshotAbsent': { ...fileVolume, snapshot, guest: id },
    'files.rollBack': { ...fileVolume, snapshot },
    'files.ensureTrashed': fileVolume,
    'files.ensureRestored': fileVolume,
    'files.ensureExpunged': fileVolume,
    'files.inventory': files,
    'files.ensureSeed': { ...files, ...firstBoot, tags: tags('instance', id) },
    'seed.ensure': {
      ...seed,
      tags: tags('instance', id),
      ...firstBoot,
    },
    'domain.ensureDefined': spec,
    'domain.ensureAbsent': domain,
    'domain.status': domain,
    'domain.ensureRunning': domain,
    'domain.ensureOff': domain,
    'domain.reset': domain,
    'domain.shutDown': { ...domain, timeoutSeconds: 120 },
    'domain.reboot': { ...domain, timeoutSeconds: 60 },
    'domain.ensureDisk': {
      ...domain,
      disk: { source: { type: 'rbd', ...data }, volumeId, readOnly: false, boot: false },
    },
    'domain.ensureDiskAbsent': { ...domain, volumeId, mustBeThere: true },
    'domain.ensureInterface': { ...domain, interface: { id: interfaceId, mac: '02:00:00:00:00:77', mtu: 1500 } },
    'domain.ensureInterfaceAbsent': { ...domain, interfaceId, mustBeThere: true },
    'domain.growDisk': { ...domain, volumeId, sizeGib: 3 },
    'domain.freeze': domain,
    'domain.thaw': domain,
    'domain.ensureNotMigrating': domain,
    'domain.ensureGoesOn': domain,
    'domain.migrate': {
      ...domain,
      targetAddress,
      cephUsers: { [storageClusterId]: user },
      sharedPools: [],
      bandwidthBytesPerSec: null,
      autoConverge: true,
    },
    'domain.serialLog': { ...domain, bytes: 4_096 },
    'domain.ensureEarlierSerialLog': { ...domain, text: 'said before\r\n' },
    'domain.ensureSerialLogAbsent': domain,
  };
}

/** May be left out. */
const optional = new Set([
  'projectId',
  'onlyOperation',
  'sharedPools',
  'qos',
  'readIops',
  'writeIops',
  'readBytesPerSec',
  'writeBytesPerSec',
  'guest',
]);
/** What a guest or a tenant says, as it is: any text at all, up to a length. */
const anyText = new Set(['text', 'userData']);
/** Of several lines. */
const lines = new Set(['caCertificate', 'certificate', 'privateKey']);
/** One line of anything. */
const anyLine = new Set(['sshKeys']);
/** Null says something there. */
const nullable = new Set(['userData', 'seed', 'tls', 'deviceClass', 'bandwidthBytesPerSec']);

const longestText = 1 << 20;
const longestOther = 1 << 16;

export interface Wrong {
  /** Such as `disks.0.image: a way up`. */
  why: string;
  input: unknown;
}

/** Inputs of which each is wrong in one place. */
export function wrongInputs(right: unknown): Wrong[] {
  const wrong: Wrong[] = [
    { why: 'nothing', input: null },
    { why: 'a list', input: [] },
    { why: 'a text', input: 'x' },
  ];
  const visit = (value: unknown, path: (string | number)[]): void => {
    const field = String(path.findLast((part) => typeof part === 'string') ?? '');
    const spoil = (why: string, by: unknown): void => {
      wrong.push({ why: `${path.join('.')}: ${why}`, input: replaced(right, path, by) });
    };
    if (typeof value === 'string') {
      spoil('a number', 7);
      if (!nullable.has(field)) spoil('null', null);
      spoil('too long', 'a'.repeat((anyText.has(field) ? longestText : longestOther) + 1));
      if (anyText.has(field)) return;
      spoil('a NUL', `${value}\u0000`);
      spoil('empty', '');
      if (lines.has(field)) return;
      spoil('a line more', `${value}\n`);
      spoil('a line before', `x\n${value}`);
      if (anyLine.has(field)) return;
      spoil('a way up', '../x');
      if (field !== 'url') spoil('a way further up', `${value}/../../x`);
      spoil('a space', `${value} x`);
      spoil('an option', '--help');
    } else if (typeof value === 'number') {
      spoil('a text', String(value));
      if (!nullable.has(field)) spoil('null', null);
      spoil('below zero', -1);
      spoil('a part', value + 0.5);
    } else if (typeof value === 'boolean') {
      spoil('a text', String(value));
      spoil('a number', Number(value));
    } else if (value === null) {
      spoil('a list', []);
      spoil('true', true);
    } else if (Array.isArray(value)) {
      spoil('a map', { 0: value[0] });
      spoil('very many', new Array(1_000).fill(value[0]));
      for (const [index, item] of value.entries()) visit(item, [...path, index]);
    } else if (typeof value === 'object') {
      if (path.length > 0) spoil('a text', 'x');
      spoil('a field that is not known', { ...value, surplus: 'x' });
      spoil('a field with a name of a way up', { ...value, '../x': 'x' });
      for (const [name, inner] of Object.entries(value as Record<string, unknown>)) {
        const { [name]: _, ...rest } = value as Record<string, unknown>;
        // A map's keys are not fields.
        if (!optional.has(name) && field !== 'cephUsers') spoil(`without ${name}`, rest);
        visit(inner, [...path, name]);
      }
    }
  };
  visit(right, []);
  return wrong;
}

function replaced(value: unknown, [first, ...rest]: (string | number)[], by: unknown): unknown {
  if (first === undefined) return by;
  if (Array.isArray(value)) return value.map((item, index) => (index === first ? replaced(item, rest, by) : item));
  const record = value as Record<string, unknown>;
  return { ...record, [first]: replaced(record[first], rest, by) };
}
