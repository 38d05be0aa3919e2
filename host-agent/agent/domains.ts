import { Problem } from '../problem.ts';
import type {
  Calls,
  DiskSource,
  DiskSpec,
  DomainSpec,
  DomainStatus,
  HostInventory,
  ImageAddress,
  InterfaceSpec,
  Tags,
} from '../protocol.ts';
import { addressOfWatcher } from '../watcher.ts';
import { domainStatus, isActive } from './domainState.ts';
import {
  type AttachedDisk,
  diskAlias,
  diskXml,
  domainName,
  domainXml,
  freeTarget,
  type HostTraits,
  interfaceXml,
  METADATA_NAMESPACE,
  nameOfSource,
  parseDisks,
  parseInterfaces,
  parseMetadata,
  withLink,
} from './domainXml.ts';
import { hostArchitecture, kvmVerdict, ownAddresses } from './facts.ts';
import type { FilePools } from './files.ts';
import {
  AFFECT_CONFIG,
  AFFECT_LIVE,
  type Domain,
  isNoDomain,
  LIBVIRT_CODE,
  type Libvirt,
  LibvirtError,
  type LibvirtSession,
} from './libvirt.ts';
import type { Log } from './log.ts';
import type { Ovsdb } from './ovsdb.ts';
import { serialLogPath } from './serial.ts';
import type { Storage } from './storage.ts';
import { bridgeTraits, removePortsOf } from './switch.ts';
import type { TypedParameters } from './xdr.ts';

export interface DomainContext {
  libvirt: Libvirt;
  db: Ovsdb;
  storage: Storage;
  files: FilePools;
  log: Log;
}

const DETACH_TIMEOUT_MS = 20_000;
/** A guest that stays frozen is as good as dead; snapshots take a tenth of a second. */
const THAW_BY_ITSELF_MS = 120_000;
const AGENT_TIMEOUT_SECONDS = 10;
const GIB = 2 ** 30;

/** The domain with this id if it carries our tags; null when there is none. @throws Problem NAME_IN_USE for a foreign one. */
export async function findOwn(session: LibvirtSession, id: string): Promise<{ domain: Domain; tags: Tags } | null> {
  const domain = await session.lookup(id);
  if (!domain) return null;
  const tags = await tagsOf(session, domain);
  if (!tags) throw new Problem('NAME_IN_USE', `the domain ${domain.name} (${id}) on this host is not of Belay`);
  return { domain, tags };
}

export async function requireOwn(session: LibvirtSession, id: string): Promise<Domain> {
  const found = await findOwn(session, id);
  if (!found) throw new Problem('NOT_FOUND', `instance ${id} is not defined on this host`);
  return found.domain;
}

async function tagsOf(session: LibvirtSession, domain: Domain): Promise<Tags | null> {
  const metadata = await session.metadata(domain, METADATA_NAMESPACE).catch((error) => {
    if (isNoDomain(error)) return null;
    throw error;
  });
  return metadata === null ? null : parseMetadata(metadata);
}

export async function statusOf(session: LibvirtSession, id: string): Promise<DomainStatus> {
  const domain = await session.lookup(id);
  if (!domain) return { state: 'absent', reason: 'absent' };
  try {
    return domainStatus(await session.state(domain));
  } catch (error) {
    if (isNoDomain(error)) return { state: 'absent', reason: 'absent' };
    throw error;
  }
}

/** What this host adds to the XML. Reads each cluster's address first, because the XML is made without waiting. */
async function hostTraits(context: DomainContext, sources: DiskSource[], id: string): Promise<HostTraits> {
  const clusters = new Map(
    await Promise.all(
      sources.map(async (source) => {
        if (source.type !== 'rbd') return [];
        const { storageClusterId } = source;
        const { monitors, user } = await context.storage.access(storageClusterId);
        return [[storageClusterId, { monitors, user }] as const];
      }),
    ).then((found) => found.flat()),
  );
  const paths = new Map<string, { path: string; format: string }>();
  for (const source of sources)
    if (source.type === 'file') paths.set(`${source.of} ${source.id}`, await context.files.pathOf(source));
  const bridge = await bridgeTraits(context.db);
  return {
    architecture: hostArchitecture(),
    kvm: (await kvmVerdict()) ?? false,
    integrationBridge: bridge.name,
    userspaceDatapath: bridge.userspaceDatapath,
    serialLog: serialLogPath(id),
    file({ of, id }) {
      const found = paths.get(`${of} ${id}`);
      if (!found) throw new Problem('INTERNAL', `the ${of} ${id} was not looked up`);
      return found;
    },
    ceph(storageClusterId) {
      const cluster = clusters.get(storageClusterId);
      if (!cluster) throw new Problem('INTERNAL', `the storage cluster ${storageClusterId} was not looked up`);
      return cluster;
    },
  };
}

export async function ensureDefined(context: DomainContext, spec: DomainSpec): Promise<void> {
  const session = await context.libvirt.session();
  const sameName = await session.lookupName(domainName(spec.id));
  if (sameName && sameName.uuid !== spec.id) {
    throw new Problem(
      'NAME_IN_USE',
      `the name ${sameName.name} belongs to another domain of this host, ${sameName.uuid}`,
    );
  }
  const found = await findOwn(session, spec.id);
  if (found && found.tags.id !== spec.tags.id) {
    throw new Problem('NAME_IN_USE', `domain ${spec.id} belongs to ${found.tags.kind} ${found.tags.id}`);
  }
  const sources = [...spec.disks.map(({ source }) => source), ...(spec.seed ? [spec.seed] : [])];
  await session.define(domainXml(spec, await hostTraits(context, sources, spec.id)));
}

export async function ensureRunning(context: DomainContext, id: string): Promise<void> {
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  const { state, reason } = domainStatus(await session.state(domain));
  if (state === 'running') return;
  if (state === 'paused') {
    // A domain that comes in by migration is paused until its source lets go: resuming it would run the guest twice.
    if (reason === 'migration' || reason === 'starting up') {
      throw new Problem('INVALID_STATE', `instance ${id} is paused (${reason}) and must not be resumed yet`, true);
    }
    await session.resume(domain);
    return;
  }
  await context.libvirt.withOwnSession((own) => own.create(domain));
}

export async function ensureOff(context: DomainContext, id: string): Promise<void> {
  const session = await context.libvirt.session();
  const found = await findOwn(session, id);
  if (found) await destroyIfActive(context, session, found.domain);
}

async function destroyIfActive(context: DomainContext, session: LibvirtSession, domain: Domain): Promise<void> {
  if (!isActive(domainStatus(await session.state(domain)).state)) return;
  try {
    await context.libvirt.withOwnSession((own) => own.destroy(domain));
  } catch (error) {
    const ended = isNoDomain(error) || (error instanceof LibvirtError && error.code === LIBVIRT_CODE.operationInvalid);
    if (!ended) throw error;
  }
}

export async function ensureAbsent(context: DomainContext, id: string): Promise<void> {
  const session = await context.libvirt.session();
  const found = await findOwn(session, id);
  if (found) {
    try {
      await destroyIfActive(context, session, found.domain);
      const persistent = await session.lookup(id);
      if (persistent) await session.undefine(persistent);
    } catch (error) {
      if (!isNoDomain(error)) throw error;
    }
  }
  await removePortsOf(context.db, id);
}

export async function reset(context: DomainContext, id: string): Promise<void> {
  const session = await context.libvirt.session();
  await session.reset(await requireOwn(session, id));
}

interface Definition {
  /** Undefined while the domain does not run. */
  live: string | undefined;
  config: string | undefined;
}

async function definitions(session: LibvirtSession, domain: Domain): Promise<Definition> {
  const running = isActive(domainStatus(await session.state(domain)).state);
  const persistent = await session.isPersistent(domain);
  return {
    live: running ? await session.xml(domain, 'now') : undefined,
    config: persistent ? await session.xml(domain, 'config') : undefined,
  };
}

export function diskOf(xml: string | undefined, volumeId: string) {
  return xml === undefined ? undefined : parseDisks(xml).find((disk) => disk.alias === diskAlias(volumeId));
}

export async function ensureDisk(context: DomainContext, id: string, disk: DiskSpec): Promise<void> {
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  const { live, config } = await definitions(session, domain);
  const attached = { live: diskOf(live, disk.volumeId), config: diskOf(config, disk.volumeId) };
  const traits = await hostTraits(context, [disk.source], id);
  const wanted = nameOfSource(disk.source, traits);
  for (const found of [attached.live, attached.config]) {
    if (found && nameOfVolume(found.source) !== nameOfVolume(wanted)) {
      throw new Problem(
        'NAME_IN_USE',
        `volume ${disk.volumeId} is attached as ${found.source} already, not as ${wanted}`,
      );
    }
  }
  let missing = 0;
  if (live !== undefined && !attached.live) missing |= AFFECT_LIVE;
  if (config !== undefined && !attached.config) missing |= AFFECT_CONFIG;
  if (missing !== 0) {
    const taken = [live, config].flatMap((xml) =>
      xml === undefined ? [] : parseDisks(xml).map(({ target }) => target),
    );
    const target = attached.live?.target ?? attached.config?.target ?? freeTarget(taken);
    const xml = diskXml(disk, target, traits);
    await context.libvirt.withOwnSession((own) => own.attach(domain, xml, missing));
  }
  const present = attached.live ?? attached.config;
  if (present) {
    const flags = (attached.live ? AFFECT_LIVE : 0) | (attached.config ? AFFECT_CONFIG : 0);
    await session.setBlockIoTune(domain, present.target, blockLimits(disk.qos), flags);
  }
}

/** A guest that was snapped while it runs writes to a file that is named for the snapshot, too. */
const nameOfVolume = (source: string): string => source.replace(/\.top-[0-9a-z-]+(?=\.qcow2$)/, '');

/** 0 lifts a limit. */
function blockLimits(qos: DiskSpec['qos']): TypedParameters {
  const limits = {
    read_bytes_sec: qos?.readBytesPerSec,
    write_bytes_sec: qos?.writeBytesPerSec,
    read_iops_sec: qos?.readIops,
    write_iops_sec: qos?.writeIops,
  };
  return new Map(
    Object.entries(limits).map(([name, limit]) => [name, { type: 'ullong', value: BigInt(limit ?? 0) } as const]),
  );
}

/** Asks the guest for the disk, which may take its time, and waits until this host watches the image no more. */
export async function ensureDiskAbsent(
  context: DomainContext,
  id: string,
  { volumeId, mustBeThere }: { volumeId: string; mustBeThere: boolean },
): Promise<void> {
  const session = await context.libvirt.session();
  const domain = mustBeThere ? await requireOwn(session, id) : (await findOwn(session, id))?.domain;
  if (!domain) return;
  const { live, config } = await definitions(session, domain);
  const kept = diskOf(config, volumeId);
  if (kept) await session.detach(domain, kept.xml, AFFECT_CONFIG);
  const plugged = diskOf(live, volumeId);
  if (!plugged) return;
  const deadline = Date.now() + DETACH_TIMEOUT_MS;
  await context.libvirt
    .withOwnSession((own) => own.detach(domain, plugged.xml, AFFECT_LIVE))
    .catch((error) => {
      // The guest was asked before and has not answered, or has let go just now.
      const asked = error instanceof LibvirtError && /in the process of unplug|not found/i.test(error.message);
      if (!asked && !(error instanceof LibvirtError && error.code === LIBVIRT_CODE.deviceMissing)) throw error;
    });
  await until(deadline, `the guest of ${id} did not release the disk of volume ${volumeId}`, async () => {
    const status = await statusOf(session, id);
    if (!isActive(status.state)) return true;
    return diskOf(await session.xml(domain, 'now'), volumeId) === undefined;
  });
  const address = rbdAddressOf(plugged);
  if (!address) return;
  const own = ownAddresses();
  await until(deadline, `this host still watches ${plugged.source}`, async () => {
    const { addresses } = await context.storage.onPool<{ addresses: string[] }>('watchers', address);
    return !addresses.some((watcher) => own.has(addressOfWatcher(watcher)));
  });
}

const interfaceOf = (xml: string | undefined, interfaceId: string) =>
  xml === undefined ? undefined : parseInterfaces(xml).find(({ id }) => id === interfaceId);

export async function ensureInterface(context: DomainContext, id: string, nic: InterfaceSpec): Promise<void> {
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  const linkUp = nic.linkUp !== false;
  const { live, config } = await definitions(session, domain);
  const places = [
    { xml: live, flag: AFFECT_LIVE },
    { xml: config, flag: AFFECT_CONFIG },
  ].filter(({ xml }) => xml !== undefined);
  const missing = places.filter(({ xml }) => !interfaceOf(xml, nic.id)).reduce((flags, { flag }) => flags | flag, 0);
  if (missing !== 0) {
    const xml = interfaceXml(nic, await hostTraits(context, [], id));
    await context.libvirt.withOwnSession((own) => own.attach(domain, xml, missing));
  }
  for (const { xml, flag } of places) {
    const found = interfaceOf(xml, nic.id);
    if (found && found.linkUp !== linkUp) await session.update(domain, withLink(found.xml, linkUp), flag);
  }
}

/** The guest has not answered yet, or has let go just now: libvirt refuses to ask twice. */
const wasAsked = (error: unknown): boolean =>
  error instanceof LibvirtError &&
  (error.code === LIBVIRT_CODE.deviceMissing || /in the process of unplug|not found|no matching/i.test(error.message));

/** Asks the guest for the interface, which may take its time, and waits until it is gone. */
export async function ensureInterfaceAbsent(
  context: DomainContext,
  id: string,
  { interfaceId, mustBeThere }: { interfaceId: string; mustBeThere: boolean },
): Promise<void> {
  const session = await context.libvirt.session();
  const domain = mustBeThere ? await requireOwn(session, id) : (await findOwn(session, id))?.domain;
  if (!domain) return;
  const { live, config } = await definitions(session, domain);
  const kept = interfaceOf(config, interfaceId);
  if (kept) await session.detach(domain, kept.xml, AFFECT_CONFIG);
  const plugged = interfaceOf(live, interfaceId);
  if (!plugged) return;
  const deadline = Date.now() + DETACH_TIMEOUT_MS;
  await context.libvirt
    .withOwnSession((own) => own.detach(domain, plugged.xml, AFFECT_LIVE))
    .catch((error) => {
      if (!wasAsked(error)) throw error;
    });
  await until(deadline, `the guest of ${id} did not release the interface ${interfaceId}`, async () => {
    const status = await statusOf(session, id);
    if (!isActive(status.state)) return true;
    return interfaceOf(await session.xml(domain, 'now'), interfaceId) === undefined;
  });
}

/** Of a disk in Ceph; undefined of any other. Its libvirt secret has the storage cluster's id. */
function rbdAddressOf({ xml, source }: AttachedDisk): ImageAddress | undefined {
  const storageClusterId = /<secret[^>]*uuid=['"]([0-9a-f-]{36})/.exec(xml)?.[1];
  const [pool = '', image = ''] = source.split('/');
  return storageClusterId === undefined ? undefined : { storageClusterId, pool, image };
}

async function until(deadline: number, otherwise: string, condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Problem('TIMEOUT', `${otherwise} in time`, true);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export async function growDisk(context: DomainContext, input: Calls['domain.growDisk']['input']): Promise<void> {
  const { id, volumeId, sizeGib } = input;
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  const { live, config } = await definitions(session, domain);
  const disk = diskOf(live, volumeId) ?? diskOf(config, volumeId);
  if (!disk) throw new Problem('NOT_FOUND', `volume ${volumeId} is not attached to instance ${id}`);
  if (live === undefined) {
    const address = rbdAddressOf(disk);
    if (!address) throw new Problem('INVALID_STATE', `instance ${id} is off: ${disk.source} grows by itself`);
    await context.storage.onPool('ensure_size', address, { sizeGib, allowShrink: false });
    return;
  }
  const wanted = BigInt(sizeGib) * BigInt(GIB);
  const size = await session.blockCapacity(domain, disk.target);
  if (size > wanted) {
    throw new Problem('INVALID_ARGUMENT', `volume ${volumeId} has ${size} bytes already; shrinking would destroy data`);
  }
  // QEMU resizes the image itself; an image resized behind its back would keep its old size for the guest.
  if (size < wanted) await session.blockResize(domain, disk.target, wanted);
}

const thawTimers = new Map<string, NodeJS.Timeout>();

export async function freeze(context: DomainContext, id: string): Promise<{ frozen: boolean }> {
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  const frozen = await context.libvirt.withOwnSession(async (own) => {
    try {
      // libvirt waits five seconds for an agent to wake up, and then at most as long as the guest writes its caches.
      const status = await own.agentCommand(domain, { execute: 'guest-fsfreeze-status' }, AGENT_TIMEOUT_SECONDS);
      if (status !== 'frozen') await own.freeze(domain);
      return true;
    } catch (error) {
      if (error instanceof LibvirtError && !isNoDomain(error)) {
        context.log('info', 'guest was not frozen', { domain: id, reason: error.message });
        return false;
      }
      throw error;
    }
  });
  if (frozen) {
    clearTimeout(thawTimers.get(id));
    const timer = setTimeout(() => {
      context.log('warn', 'guest stayed frozen and is thawed', { domain: id, afterMs: THAW_BY_ITSELF_MS });
      thaw(context, id).catch((error) => context.log('error', 'thaw failed', { domain: id, reason: String(error) }));
    }, THAW_BY_ITSELF_MS);
    timer.unref();
    thawTimers.set(id, timer);
  }
  return { frozen };
}

export async function thaw(context: DomainContext, id: string): Promise<void> {
  clearTimeout(thawTimers.get(id));
  thawTimers.delete(id);
  const session = await context.libvirt.session();
  const found = await findOwn(session, id);
  if (!found || !isActive(domainStatus(await session.state(found.domain)).state)) return;
  await context.libvirt.withOwnSession(async (own) => {
    const status = await own
      .agentCommand(found.domain, { execute: 'guest-fsfreeze-status' }, AGENT_TIMEOUT_SECONDS)
      .catch((error) => {
        // Without an agent nothing was frozen.
        if (error instanceof LibvirtError) return 'thawed';
        throw error;
      });
    if (status === 'frozen') await own.thaw(found.domain);
  });
}

export async function domainInventory(libvirt: Libvirt): Promise<HostInventory['domains']> {
  const session = await libvirt.session();
  const domains = await session.listDomains();
  return Promise.all(
    domains.map(async (domain) => ({
      id: domain.uuid,
      state: (await statusOf(session, domain.uuid)).state,
      tags: await tagsOf(session, domain),
    })),
  );
}
