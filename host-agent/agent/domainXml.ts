import { DISKS_MAX } from '../protocol/domains.ts';
import type { DiskSource, DiskSpec, DomainSpec, ImageAddress, InterfaceSpec, Tags } from '../protocol.ts';

/** What the host adds to an instance's specification. */
export interface HostTraits {
  architecture: 'x86_64' | 'aarch64';
  /** A guest really booted with KVM here; else QEMU emulates. */
  kvm: boolean;
  integrationBridge: string;
  /** The userspace datapath fills in no checksums: with virtio's offloads DHCP and ping work, but TCP carries no byte. */
  userspaceDatapath: boolean;
  serialLog: string;
  /** Where a file of a pool is, and what is in it. */
  file(source: Extract<DiskSource, { type: 'file' }>): { path: string; format: string };
  /** Where a pool's cluster is, and whose libvirt secret opens it. */
  ceph(storageClusterId: string): { monitors: string[]; user: string };
}

export const METADATA_NAMESPACE = 'urn:belay:domain';

/** The seed keeps clear of the names that are given to disks as they come and go. */
const SEED_TARGET = 'vdz';

/** vda to vdz, then vdaa and on, as libvirt and Linux count them (virIndexToDiskName). */
const targetName = (index: number): string => {
  const letter = (n: number): string => String.fromCharCode(97 + n);
  return `vd${index < 26 ? '' : letter(Math.floor(index / 26) - 1)}${letter(index % 26)}`;
};
const DISK_TARGETS = Array.from({ length: DISKS_MAX + 1 }, (_, index) => targetName(index)).filter(
  (name) => name !== SEED_TARGET,
);

export function domainName(id: string): string {
  return `instance-${id}`;
}

/** How a disk is found again in a definition: serials are cut short, and two volumes made at once may begin alike. */
export function diskAlias(volumeId: string): string {
  return `ua-${volumeId}`;
}

/** What the guest finds in /sys/block/*\/serial; virtio cuts serials at 20 characters. */
export function diskSerial(volumeId: string): string {
  return volumeId.replaceAll('-', '').slice(0, 20);
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&apos;', '"': '&quot;' };

/** For text and for attributes in either kind of quotes. Control characters, which XML can not hold, become spaces. */
export function escapeXml(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach libvirt's parser
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, ' ').replace(/[&<>'"]/g, (c) => ESCAPES[c] ?? c);
}

export function unescapeXml(text: string): string {
  return text
    .replace(/&(lt|gt|apos|quot);/g, (entity) => ({ '&lt;': '<', '&gt;': '>', '&apos;': "'" })[entity] ?? '"')
    .replaceAll('&amp;', '&');
}

/** The first free disk name. @throws RangeError beyond 64 disks: there is room for them, the seed and all else on the machine's buses. */
export function freeTarget(taken: Iterable<string>): string {
  const used = new Set(taken);
  const free = DISK_TARGETS.find((name) => !used.has(name));
  if (free === undefined) throw new RangeError(`no more than ${DISKS_MAX} disks can be attached`);
  return free;
}

/**
 * The first bus has room for some 25 devices. Two bridges carry 31 more each, also for disks that come while the guest runs; at the
 * end of the bus they leave every other device where it has always been.
 */
const bridgesXml = [1, 2]
  .map(
    (index) =>
      `<controller type='pci' index='${index}' model='pci-bridge'><address type='pci' domain='0x0000' bus='0x00' slot='0x${(0x20 - index).toString(16)}' function='0x0'/></controller>`,
  )
  .join('\n');

function rbdXml(image: ImageAddress, traits: HostTraits): string {
  const { monitors, user } = traits.ceph(image.storageClusterId);
  const hosts = monitors.map((monitor) => {
    const { host, port } = splitMonitor(monitor);
    return `<host name='${escapeXml(host)}' port='${port}'/>`;
  });
  return `<auth username='${escapeXml(user)}'><secret type='ceph' uuid='${escapeXml(image.storageClusterId)}'/></auth>
<source protocol='rbd' name='${escapeXml(`${image.pool}/${image.image}`)}'>${hosts.join('')}</source>`;
}

const devicePath = ({ volumeGroup, volume }: Extract<DiskSource, { type: 'block' }>): string =>
  `/dev/${volumeGroup}/${volume}`;

/** How a source is told in messages, and by `AttachedDisk`. */
export function nameOfSource(source: DiskSource, traits: HostTraits): string {
  if (source.type === 'rbd') return `${source.pool}/${source.image}`;
  return source.type === 'file' ? traits.file(source).path : devicePath(source);
}

/** What libvirt calls the sort of a disk, what is in it, and where it is. */
function sourceXml(source: DiskSource, traits: HostTraits): { type: string; format: string; xml: string } {
  if (source.type === 'rbd') return { type: 'network', format: 'raw', xml: rbdXml(source, traits) };
  if (source.type === 'file') {
    // libvirt follows the layers below by what each says of the next.
    const { path, format } = traits.file(source);
    return { type: 'file', format, xml: `<source file='${escapeXml(path)}'/>` };
  }
  return { type: 'block', format: 'raw', xml: `<source dev='${escapeXml(devicePath(source))}'/>` };
}

/** `10.0.0.3:6789`, `[fd00::3]:6789` or an address alone. */
export function splitMonitor(monitor: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(monitor);
  if (!match) return { host: monitor, port: 6789 };
  return { host: match[1] ?? match[2] ?? monitor, port: Number(match[3] ?? 6789) };
}

function iotuneXml(qos: DiskSpec['qos']): string {
  const limits = [
    ['read_bytes_sec', qos?.readBytesPerSec],
    ['write_bytes_sec', qos?.writeBytesPerSec],
    ['read_iops_sec', qos?.readIops],
    ['write_iops_sec', qos?.writeIops],
  ] as const;
  const elements = limits
    .filter(([, limit]) => limit !== undefined)
    .map(([name, limit]) => `<${name}>${limit}</${name}>`);
  return elements.length === 0 ? '' : `<iotune>${elements.join('')}</iotune>`;
}

/**
 * `error_policy` stop: when a host is fenced, the guest's writes fail, and a guest that went on with errors would
 * believe them done.
 */
export function diskXml(disk: DiskSpec, target: string, traits: HostTraits): string {
  const { type, format, xml } = sourceXml(disk.source, traits);
  return `<disk type='${type}' device='disk'>
<driver name='qemu' type='${format}' cache='none' discard='unmap' error_policy='stop' rerror_policy='stop'/>
${xml}
<target dev='${target}' bus='virtio'/>${iotuneXml(disk.qos)}${disk.readOnly ? '<readonly/>' : ''}
<serial>${diskSerial(disk.volumeId)}</serial><alias name='${diskAlias(escapeXml(disk.volumeId))}'/>
</disk>`;
}

function seedXml(seed: DiskSource, traits: HostTraits): string {
  const { type, format, xml } = sourceXml(seed, traits);
  return `<disk type='${type}' device='disk'>
<driver name='qemu' type='${format}' cache='none'/>
${xml}
<target dev='${SEED_TARGET}' bus='virtio'/><readonly/>
<serial>seed</serial>
</disk>`;
}

export function interfaceXml(nic: InterfaceSpec, traits: HostTraits): string {
  const offloads = traits.userspaceDatapath
    ? `<driver name='qemu'><host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off'/><guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/></driver>`
    : '';
  return `<interface type='bridge'>
<mac address='${escapeXml(nic.mac)}'/><source bridge='${escapeXml(traits.integrationBridge)}'/>
<virtualport type='openvswitch'><parameters interfaceid='${escapeXml(nic.id)}'/></virtualport>
<model type='virtio'/>${offloads}
<mtu size='${nic.mtu}'/>${nic.linkUp === false ? LINK_DOWN : ''}<rom enabled='no'/>
</interface>`;
}

const LINK_DOWN = "<link state='down'/>";

/** An interface as it stands in a definition, `xml` the whole element. */
export interface AttachedInterface {
  id: string;
  linkUp: boolean;
  xml: string;
}

/** The interfaces of a definition that libvirt wrote, those of ours: others have no id. */
export function parseInterfaces(xml: string): AttachedInterface[] {
  const interfaces = xml.match(/<interface[\s>][\s\S]*?<\/interface>/g) ?? [];
  return interfaces.flatMap((element) => {
    const id = /<parameters[^>]* ?interfaceid=['"]([0-9a-f-]{36})/.exec(element)?.[1];
    return id === undefined ? [] : [{ id, linkUp: !/<link state=['"]down['"]/.test(element), xml: element }];
  });
}

/** The same element with its link as it shall be, for libvirt to change. */
export function withLink(xml: string, linkUp: boolean): string {
  const without = xml.replace(/\s*<link state=['"][a-z]+['"]\/>/, '');
  return linkUp ? without : without.replace(/<\/interface>$/, `${LINK_DOWN}</interface>`);
}

export function metadataXml(tags: Tags): string {
  const project = tags.projectId === undefined ? '' : ` project='${escapeXml(tags.projectId)}'`;
  return `<belay:instance xmlns:belay='${METADATA_NAMESPACE}' id='${escapeXml(tags.id)}' kind='${escapeXml(tags.kind)}' operation='${escapeXml(tags.operation)}' revision='${tags.revision}'${project}/>`;
}

/** Reads back what `metadataXml` wrote; null for anything else. */
export function parseMetadata(xml: string): Tags | null {
  const attribute = (name: string) => {
    const match = new RegExp(`\\s${name}=(?:'([^']*)'|"([^"]*)")`).exec(xml);
    return match ? unescapeXml(match[1] ?? match[2] ?? '') : undefined;
  };
  const id = attribute('id');
  const kind = attribute('kind');
  const projectId = attribute('project');
  if (id === undefined || kind === undefined) return null;
  return {
    id,
    kind,
    operation: attribute('operation') ?? '',
    revision: Number(attribute('revision') ?? 0),
    ...(projectId === undefined ? {} : { projectId }),
  };
}

function cpuXml(kvm: boolean, architecture: HostTraits['architecture']): string {
  // host-model: what the host has, named so that libvirt can check it at the target of a migration.
  if (kvm) return `<cpu mode='${architecture === 'aarch64' ? 'host-passthrough' : 'host-model'}'/>`;
  if (architecture === 'aarch64')
    return `<cpu mode='custom' match='exact' check='none'><model>cortex-a57</model></cpu>`;
  return `<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>`;
}

/** The definition that libvirt keeps. Autostart is never set: a host that returns runs nothing by itself. */
export function domainXml(spec: DomainSpec, traits: HostTraits): string {
  const { architecture, kvm } = traits;
  const isArm = architecture === 'aarch64';
  const ordered = [...spec.disks].sort((a, b) => Number(b.boot) - Number(a.boot));
  const targets: string[] = [];
  const disks = ordered.map((disk) => {
    const target = freeTarget(targets);
    targets.push(target);
    return diskXml(disk, target, traits);
  });
  const firmware = spec.firmware === 'uefi' || isArm ? ` firmware='efi'` : '';
  const secureBootOff = firmware === '' ? '' : `<firmware><feature enabled='no' name='secure-boot'/></firmware>`;
  // Without a limit QEMU's translation cache grows to a quarter of the guest's memory and more.
  const translationCache = kvm ? '' : `<tcg><tb-cache unit='MiB'>32</tb-cache></tcg>`;
  const timers = isArm ? '' : `<timer name='hpet' present='no'/>`;
  return `<domain type='${kvm ? 'kvm' : 'qemu'}'>
<name>${domainName(escapeXml(spec.id))}</name><uuid>${escapeXml(spec.id)}</uuid><title>${escapeXml(spec.hostname)}</title>
<metadata>${metadataXml(spec.tags)}</metadata>
<memory unit='MiB'>${spec.memoryMib}</memory><vcpu>${spec.vcpus}</vcpu>
<os${firmware}><type arch='${architecture}' machine='${isArm ? 'virt' : 'pc'}'>hvm</type>${secureBootOff}<boot dev='hd'/></os>
<features><acpi/>${isArm ? '' : '<apic/>'}${translationCache}</features>
${cpuXml(kvm, architecture)}
<clock offset='utc'>${timers}</clock>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices>
${disks.join('\n')}
${spec.seed ? seedXml(spec.seed, traits) : ''}
${spec.interfaces.map((nic) => interfaceXml(nic, traits)).join('\n')}
<serial type='pty'><log file='${escapeXml(traits.serialLog)}' append='on'/><target port='0'/></serial>
<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<memballoon model='virtio'><stats period='10'/></memballoon>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
${isArm ? '' : `<controller type='usb' model='none'/>\n${bridgesXml}`}
</devices>
</domain>`;
}

/**
 * A definition whose disks are opened by other Ceph users, by storage cluster. @throws RangeError when one of its clusters has none.
 */
export function withCephUsers(xml: string, users: Record<string, string>): string {
  return xml.replace(/<auth username=(['"])[^'"]*\1>([\s\S]*?)<\/auth>/g, (_, _quote, inside: string) => {
    const storageClusterId = /<secret[^>]*uuid=['"]([0-9a-f-]{36})/.exec(inside)?.[1] ?? '';
    const user = users[storageClusterId];
    if (user === undefined) throw new RangeError(`no user is named for the storage cluster ${storageClusterId}`);
    return `<auth username='${escapeXml(user)}'>${inside}</auth>`;
  });
}

/** A disk as it stands in a definition. `xml` is the whole element, as libvirt wants it back for a detach. */
export interface AttachedDisk {
  target: string;
  alias: string;
  /** As `nameOfSource` tells it. */
  source: string;
  xml: string;
}

/** The files of a disk that runs, the one that is written to first. */
export const chainOf = ({ xml }: AttachedDisk): string[] =>
  [...xml.matchAll(/<source file=(?:'([^']+)'|"([^"]+)")/g)].map(([, single, double]) =>
    unescapeXml(single ?? double ?? ''),
  );

/** The disks of a definition that libvirt wrote. */
export function parseDisks(xml: string): AttachedDisk[] {
  const disks = xml.match(/<disk[\s>][\s\S]*?<\/disk>/g) ?? [];
  return disks.map((element) => ({
    target: /<target dev=['"]([^'"]+)/.exec(element)?.[1] ?? '',
    alias: unescapeXml(/<alias name=['"]([^'"]+)/.exec(element)?.[1] ?? ''),
    source: unescapeXml(/<source (?:protocol=['"]rbd['"] name|file|dev)=['"]([^'"]+)/.exec(element)?.[1] ?? ''),
    xml: element,
  }));
}
