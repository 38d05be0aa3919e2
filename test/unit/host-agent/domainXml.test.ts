import { describe, expect, it } from 'vitest';
import {
  diskAlias,
  diskSerial,
  diskXml,
  domainXml,
  escapeXml,
  freeTarget,
  type HostTraits,
  metadataXml,
  parseDisks,
  parseMetadata,
  splitMonitor,
  unescapeXml,
  withCephUsers,
} from '../../../host-agent/agent/domainXml.ts';
import { DISKS_MAX } from '../../../host-agent/protocol/domains.ts';
import type { DomainSpec } from '../../../host-agent/protocol.ts';
import { checkCall } from '../../../host-agent/requests.ts';
import { diskSlots } from '../../../model/storage/volume.ts';

const instanceId = '6f1c1c2e-5b7e-4f0e-9d0a-3f6f2f2f0001';
const volumeId = '0193a2b4-c5d6-7e8f-9a0b-1c2d3e4f5061';
const twinVolumeId = '0193a2b4-c5d6-7e8f-9a0b-1c2d3e4f5062';
const blockVolumeId = '0193a2b4-c5d6-7e8f-9a0b-1c2d3e4f5063';
const cluster = '11111111-1111-4111-8111-111111111111';

const traits: HostTraits = {
  architecture: 'x86_64',
  kvm: false,
  integrationBridge: 'br-int',
  userspaceDatapath: true,
  serialLog: '/var/log/libvirt/x.serial.log',
  file: ({ of, id }) => ({ path: `/srv/pool/${of}s/${id}.qcow2`, format: 'qcow2' }),
  ceph: () => ({ monitors: ['10.0.0.3:6789', '[fd00::3]:3300'], user: 'belay' }),
};

const spec: DomainSpec = {
  id: instanceId,
  tags: { id: instanceId, kind: 'instance', operation: 'op-1', revision: 7, projectId: 'p-1' },
  hostname: 'web-1',
  vcpus: 2,
  memoryMib: 512,
  firmware: 'bios',
  disks: [
    {
      source: { type: 'rbd', storageClusterId: cluster, pool: 'fast', image: 'volume-b' },
      volumeId: twinVolumeId,
      readOnly: true,
      boot: false,
    },
    {
      source: { type: 'block', volumeGroup: 'shared', volume: 'volume-c' },
      volumeId: blockVolumeId,
      readOnly: false,
      boot: false,
    },
    {
      source: { type: 'rbd', storageClusterId: cluster, pool: 'fast', image: 'volume-a' },
      volumeId,
      readOnly: false,
      boot: true,
      qos: { readIops: 100, writeBytesPerSec: 5_000_000 },
    },
  ],
  seed: { type: 'rbd', storageClusterId: cluster, pool: 'bulk', image: 'seed-x' },
  interfaces: [{ id: '6f1c1c2e-5b7e-4f0e-9d0a-3f6f2f2f0009', mac: '02:aa:00:00:00:11', mtu: 1442 }],
};

describe('the definition of a domain', () => {
  const xml = domainXml(spec, traits);

  it('puts the boot disk first and finds every disk again by its alias', () => {
    const disks = parseDisks(xml);
    expect(disks.map(({ target, source, alias }) => [target, source, alias])).toEqual([
      ['vda', 'fast/volume-a', diskAlias(volumeId)],
      ['vdb', 'fast/volume-b', diskAlias(twinVolumeId)],
      ['vdc', '/dev/shared/volume-c', diskAlias(blockVolumeId)],
      ['vdz', 'bulk/seed-x', ''],
    ]);
    expect(disks[1]?.xml).toContain('<readonly/>');
  });

  it('opens each disk as what its pool is made of', () => {
    expect(xml).toContain("<source protocol='rbd' name='fast/volume-a'>");
    const block = parseDisks(xml).find(({ target }) => target === 'vdc')?.xml;
    expect(block).toMatch(/^<disk type='block' device='disk'>/);
    expect(block).toContain("<source dev='/dev/shared/volume-c'/>");
    expect(block).not.toContain('<auth');
    const source = { type: 'file', poolId: cluster, of: 'volume', id: volumeId } as const;
    const file = diskXml({ source, volumeId, readOnly: false, boot: false }, 'vdd', traits);
    expect(file).toMatch(/^<disk type='file' device='disk'>\n<driver name='qemu' type='qcow2' cache='none'/);
    expect(parseDisks(file)[0]?.source).toBe(`/srv/pool/volumes/${volumeId}.qcow2`);
  });

  it('limits only what has a limit', () => {
    expect(xml).toContain(
      '<iotune><write_bytes_sec>5000000</write_bytes_sec><read_iops_sec>100</read_iops_sec></iotune>',
    );
    expect(xml.match(/<iotune>/g)).toHaveLength(1);
  });

  it('names every monitor, and the secret of the cluster', () => {
    expect(xml).toContain("<host name='10.0.0.3' port='6789'/><host name='fd00::3' port='3300'/>");
    expect(xml).toContain(`<auth username='belay'><secret type='ceph' uuid='${cluster}'/></auth>`);
  });

  it('stops a guest whose disk fails instead of letting it go on', () => {
    expect(xml.match(/error_policy='stop' rerror_policy='stop'/g)).toHaveLength(3);
  });

  it('switches checksum offloads off on the userspace datapath only', () => {
    expect(xml).toContain("<host csum='off'");
    expect(domainXml(spec, { ...traits, userspaceDatapath: false })).not.toContain('csum');
  });

  it('emulates unless KVM was proved', () => {
    expect(xml).toMatch(/^<domain type='qemu'>/);
    expect(xml).toContain('qemu64');
    const accelerated = domainXml(spec, { ...traits, kvm: true });
    expect(accelerated).toMatch(/^<domain type='kvm'>/);
    expect(accelerated).toContain("<cpu mode='host-model'/>");
    expect(accelerated).not.toContain('tb-cache');
  });

  it('carries the tags there and back', () => {
    expect(parseMetadata(metadataXml(spec.tags))).toEqual(spec.tags);
    const libvirtStyle = `<belay:instance xmlns:belay="urn:belay:domain" id="a&amp;b" kind="instance" operation="o" revision="3"/>`;
    expect(parseMetadata(libvirtStyle)).toEqual({ id: 'a&b', kind: 'instance', operation: 'o', revision: 3 });
    expect(parseMetadata('<other/>')).toBeNull();
  });

  it('takes no markup from a value', () => {
    const hostile = domainXml({ ...spec, hostname: 'x</title><on_crash>\'"&' }, traits);
    expect(hostile).toContain('<title>x&lt;/title&gt;&lt;on_crash&gt;&apos;&quot;&amp;</title>');
    expect(hostile.match(/<on_crash>/g)).toHaveLength(1);
  });
});

describe('names of disks', () => {
  it('keeps 20 characters for the guest, which two volumes made at once may share', () => {
    expect(diskSerial(volumeId)).toBe('0193a2b4c5d67e8f9a0b');
    expect(diskSerial(volumeId)).toBe(diskSerial(twinVolumeId));
    expect(diskAlias(volumeId)).not.toBe(diskAlias(twinVolumeId));
  });

  it("gives the first free name, never the seed's, and refuses the 65th disk", () => {
    expect(freeTarget(['vda', 'vdc', 'vdz'])).toBe('vdb');
    const given: string[] = [];
    for (let count = 0; count < 64; count++) given.push(freeTarget(given));
    expect(given.slice(23, 28)).toEqual(['vdx', 'vdy', 'vdaa', 'vdab', 'vdac']);
    expect(given.slice(49, 52)).toEqual(['vday', 'vdaz', 'vdba']);
    expect(new Set(given).size).toBe(64);
    expect(given).not.toContain('vdz');
    expect(() => freeTarget(given)).toThrow(/64 disks/);
    expect(DISKS_MAX).toBe(diskSlots);
    const disks = Array.from({ length: DISKS_MAX }, () => spec.disks[0]);
    checkCall('domain.ensureDefined', { ...spec, disks });
    expect(() => checkCall('domain.ensureDefined', { ...spec, disks: [...disks, spec.disks[0]] })).toThrow(/disks/);
  });
});

describe('a definition that goes to another host', () => {
  it("opens each disk as the target's own user, and is otherwise the same", () => {
    const here = domainXml(spec, traits);
    const there = withCephUsers(here, { [cluster]: 'belay-target' });
    expect(there).toBe(domainXml(spec, { ...traits, ceph: () => ({ ...traits.ceph(cluster), user: 'belay-target' }) }));
    expect(() => withCephUsers(here, {})).toThrow(cluster);
  });
});

describe('text in XML', () => {
  it('survives escaping, but for control characters', () => {
    const text = `<a href="x">&amp; 'quoted'</a>`;
    expect(unescapeXml(escapeXml(text))).toBe(text);
    expect(escapeXml('a\u0000b\u001bc')).toBe('a b c');
  });

  it('reads monitors with and without a port', () => {
    expect(splitMonitor('10.0.0.3')).toEqual({ host: '10.0.0.3', port: 6789 });
    expect(splitMonitor('[fd00::3]')).toEqual({ host: 'fd00::3', port: 6789 });
    expect(splitMonitor('mon.example:3300')).toEqual({ host: 'mon.example', port: 3300 });
  });
});
