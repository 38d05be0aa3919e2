import { Problem } from '../problem.ts';
import type { CallName, Calls, ImageAddress, Nothing, PoolInventory } from '../protocol.ts';
import * as machine from './boot.ts';
import * as domains from './domains.ts';
import { guestStatistics, hostFacts, hostMetrics, keepKvmVerdict } from './facts.ts';
import type { GuestDisk } from './files.ts';
import { guestDisk } from './guestDisk.ts';
import type { Heartbeat } from './heartbeat.ts';
import * as hypervisor from './hypervisor.ts';
import { ensureSeed, importImage } from './images.ts';
import { keyedMutex } from './keyedMutex.ts';
import { ensureGoesOn, ensureNotMigrating, migrate } from './migration.ts';
import { probePeers } from './peers.ts';
import { reboot, shutDown } from './power.ts';
import { probeKvm } from './probe.ts';
import type { ClusterAccess, RbdHelper } from './rbd.ts';
import { ensureEarlierSerialLog, ensureSerialLogAbsent, tailOfSerialLog } from './serial.ts';
import { placedFiles } from './storage.ts';
import * as localSwitch from './switch.ts';
import type { TaskHandlers } from './tasks.ts';

export type CallHandlers = {
  [Name in CallName]: (input: Calls[Name]['input']) => Promise<Calls[Name]['result']>;
};

export interface AgentContext extends domains.DomainContext {
  version: string;
  rbd: RbdHelper;
  heartbeat: Heartbeat;
  runningTasks(): string[];
}

/**
 * Every call and what serves it. Changes of one thing run one after the other, because a caller that lost patience may ask
 * again while its first request is still at work.
 */
export function callHandlers(context: AgentContext): CallHandlers {
  const { libvirt, db, storage, rbd, files, heartbeat } = context;
  const inTurn = keyedMutex();

  /** For calls that answer nothing. */
  const done = async (work: Promise<unknown>): Promise<Nothing> => {
    await work;
    return {};
  };
  const onDomain =
    <Input extends { id: string }>(work: (input: Input) => Promise<unknown>) =>
    (input: Input) =>
      inTurn(`domain ${input.id}`, () => done(work(input)));
  const onImage =
    <Input extends ImageAddress>(operation: string, args: (input: Input) => Record<string, unknown> = () => ({})) =>
    (input: Input) => {
      const { storageClusterId, pool, image } = input;
      const address = { storageClusterId, pool, image };
      return inTurn(`image ${pool}/${image}`, () => done(storage.onPool(operation, address, args(input))));
    };
  /** A guest that has the volume open on this host takes part, in turn with all else that is done to it. */
  const underGuest =
    <Input extends { id: string; guest?: string }>(
      work: (input: Input, disk: GuestDisk | undefined) => Promise<void>,
    ) =>
    (input: Input) =>
      input.guest === undefined
        ? done(work(input, undefined))
        : inTurn(`domain ${input.guest}`, async () =>
            done(work(input, await guestDisk(context, input.guest ?? '', input.id))),
          );
  /** Pools of files know themselves what comes one after the other. */
  const onFiles =
    <Input>(work: (input: Input) => Promise<unknown>) =>
    (input: Input) =>
      done(work(input));
  const onCluster = <Result>(operation: string, access: ClusterAccess, args: Record<string, unknown> = {}) =>
    inTurn(`cluster ${access.fsid}`, () => rbd.request<Result>(operation, access, args));
  const guests = guestStatistics(libvirt);
  const configuring = (work: () => Promise<unknown>) => inTurn('configuration', () => done(work()));

  return {
    'host.facts': () => hostFacts(context.version, libvirt),
    'host.metrics': async () => ({
      ...(await hostMetrics(guests)),
      heartbeatAgeSeconds: heartbeat.ageSeconds(),
      storageClients: heartbeat.clients(),
    }),
    'host.inventory': async () => {
      const [found, ports, mappings, secrets, ...files] = await Promise.all([
        domains.domainInventory(libvirt),
        localSwitch.ports(db),
        localSwitch.mappings(db),
        storage.secrets(),
        placedFiles(),
        hypervisor.placedCertificates(),
        localSwitch.placedCertificates(),
      ]);
      return { domains: found, ports, mappings, secrets, files: files.flat(), tasks: context.runningTasks() };
    },

    'host.boot': machine.boot,
    'host.reboot': (input) => configuring(() => machine.reboot(libvirt, input)),

    'hypervisor.ensureConfigured': (input) => configuring(() => hypervisor.ensureConfigured(libvirt, input)),
    'hypervisor.ensureUnconfigured': () => configuring(() => hypervisor.ensureUnconfigured(libvirt)),
    'switch.ensureConfigured': (input) => configuring(() => localSwitch.ensureConfigured(db, input)),
    'switch.ensureUnconfigured': () => configuring(() => localSwitch.ensureUnconfigured(db)),
    'switch.bridges': ({ names }) => localSwitch.bridges(db, names),
    'switch.ensureMapping': (input) => configuring(() => localSwitch.ensureMapping(db, input)),
    'switch.ensureMappingAbsent': (input) => configuring(() => localSwitch.ensureMappingAbsent(db, input)),
    'storage.ensureConnected': (input) => inTurn('configuration', () => storage.connect(input)),
    'storage.ensureDisconnected': ({ storageClusterId }) => configuring(() => storage.disconnect(storageClusterId)),

    'ceph.status': ({ access }) => rbd.request('ceph_status', access, {}),
    'ceph.poolStatus': ({ access, pool }) => rbd.request('pool_status', access, { pool }),
    'ceph.ensureUser': ({ access, user, pools }) => {
      refuseOwnUser(access, user);
      return onCluster('ensure_user', access, { user, pools });
    },
    'ceph.ensureUserAbsent': ({ access, user }) => {
      refuseOwnUser(access, user);
      return onCluster('ensure_user_absent', access, { user });
    },
    'ceph.ensureFenced': ({ access, addresses }) => onCluster('ensure_fenced', access, { addresses }),
    'ceph.ensureUnfenced': ({ access, addresses }) => onCluster('ensure_unfenced', access, { addresses }),
    'ceph.fenced': ({ access }) => rbd.request('fenced', access, {}),
    'rbd.proveWritable': (address) => done(storage.onPool('prove_writable', address)),
    'ceph.ensurePool': ({ access, ...args }) => onCluster('ensure_pool', access, args),
    'ceph.ensurePoolAbsent': ({ access, pool, tags }) => onCluster('ensure_pool_absent', access, { pool, tags }),

    'rbd.ensureImage': onImage('ensure_image', ({ sizeGib, tags }) => ({ sizeGib, tags })),
    'rbd.ensureClone': onImage('ensure_clone', ({ from, sizeGib, tags }) => ({ source: from, sizeGib, tags })),
    'rbd.ensureImageAbsent': onImage('ensure_image_absent', ({ onlyOperation }) =>
      onlyOperation === undefined ? {} : { onlyOperation },
    ),
    'rbd.ensureSize': onImage('ensure_size', ({ sizeGib, allowShrink }) => ({ sizeGib, allowShrink })),
    'rbd.ensureSnapshot': onImage('ensure_snapshot', ({ snapshot, tags }) => ({ snapshot, tags })),
    'rbd.ensureSnapshotAbsent': onImage('ensure_snapshot_absent', ({ snapshot }) => ({ snapshot })),
    'rbd.rollBack': onImage('roll_back', ({ snapshot }) => ({ snapshot })),
    'rbd.ensureTrashed': onImage('ensure_trashed'),
    'rbd.ensureRestored': onImage('ensure_restored'),
    'rbd.ensureExpunged': onImage('ensure_expunged'),
    'rbd.watchers': (input) => storage.onPool<{ addresses: string[] }>('watchers', input),
    'rbd.inventory': ({ storageClusterId, pool }) =>
      storage.onPool<PoolInventory>('inventory', { storageClusterId, pool }),
    'seed.ensure': (input) => inTurn(`image ${input.pool}/${input.image}`, () => done(ensureSeed(storage, input))),

    'files.ensureConnected': files.connect,
    'files.ensureDisconnected': onFiles(({ poolId }) => files.disconnect(poolId)),
    'files.ensurePoolAbsent': onFiles(files.removePool),
    'files.status': ({ poolId }) => files.status(poolId),
    'files.ensureVolume': onFiles(files.ensureVolume),
    'files.ensureClone': onFiles(files.ensureClone),
    'files.ensureAbsent': onFiles(files.ensureAbsent),
    'files.ensureSize': onFiles(files.ensureSize),
    'files.ensureSnapshot': underGuest(files.ensureSnapshot),
    'files.ensureSnapshotAbsent': underGuest(files.ensureSnapshotAbsent),
    'files.rollBack': onFiles(files.rollBack),
    'files.ensureTrashed': onFiles(files.ensureTrashed),
    'files.ensureRestored': onFiles(files.ensureRestored),
    'files.ensureExpunged': onFiles(files.ensureExpunged),
    'files.inventory': ({ poolId }) => files.inventory(poolId),
    'files.ensureSeed': onFiles(files.ensureSeed),

    'heartbeat.ensure': (input) => configuring(() => heartbeat.ensure(input)),
    'heartbeat.watch': heartbeat.watch,
    'peer.probe': probePeers,

    'domain.ensureDefined': onDomain((input) => domains.ensureDefined(context, input)),
    'domain.ensureRunning': onDomain(({ id }) => domains.ensureRunning(context, id)),
    'domain.ensureOff': onDomain(({ id }) => domains.ensureOff(context, id)),
    'domain.ensureAbsent': onDomain(({ id }) => domains.ensureAbsent(context, id)),
    'domain.reset': onDomain(({ id }) => domains.reset(context, id)),
    'domain.status': async ({ id }) => domains.statusOf(await libvirt.session(), id),
    'domain.ensureNotMigrating': ({ id }) => inTurn(`domain ${id}`, () => ensureNotMigrating(context, id)),
    'domain.ensureGoesOn': onDomain(({ id }) => ensureGoesOn(context, id)),
    'domain.ensureDisk': onDomain(({ id, disk }) => domains.ensureDisk(context, id, disk)),
    'domain.ensureDiskAbsent': onDomain(({ id, ...of }) => domains.ensureDiskAbsent(context, id, of)),
    'domain.ensureInterface': onDomain((input) => domains.ensureInterface(context, input.id, input.interface)),
    'domain.ensureInterfaceAbsent': onDomain(({ id, ...of }) => domains.ensureInterfaceAbsent(context, id, of)),
    'domain.growDisk': onDomain((input) => domains.growDisk(context, input)),
    'domain.freeze': ({ id }) => domains.freeze(context, id),
    'domain.thaw': ({ id }) => done(domains.thaw(context, id)),
    'domain.serialLog': async ({ id, bytes }) => ({ text: await tailOfSerialLog(id, bytes) }),
    'domain.ensureEarlierSerialLog': onDomain(({ id, text }) => ensureEarlierSerialLog(id, text)),
    'domain.ensureSerialLogAbsent': onDomain(async ({ id }) => ensureSerialLogAbsent(id)),
  };
}

/** Changing the user one acts as, or the administrator, would lock everybody out. */
function refuseOwnUser(access: ClusterAccess, user: string): void {
  if (user === access.user || user === 'admin') {
    throw new Problem('INVALID_ARGUMENT', `the user ${user} administers the storage cluster and is not touched`);
  }
}

export function taskHandlers(context: AgentContext): TaskHandlers {
  return {
    'host.probe': async (_input, { signal }) => {
      const { kvm, reason } = await probeKvm(signal);
      signal.throwIfAborted();
      context.log('info', 'probed KVM', { kvm, reason });
      await keepKvmVerdict(kvm, reason);
      return hostFacts(context.version, context.libvirt);
    },
    'domain.shutDown': (input, task) => shutDown(context, input, task),
    'domain.reboot': (input, task) => reboot(context, input, task),
    'domain.migrate': (input, task) => migrate(context, input, task),
    'image.import': (input, task) => importImage(context.storage, input, task),
    'files.import': (input, task) => context.files.importImage(input, task),
  };
}
