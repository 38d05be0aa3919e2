import { Context } from '@temporalio/activity';
import { dropClaimOn, instant, settleOn } from '../../database/claims.ts';
import { clientsOf, isLeftToFailover, isToRunAgain } from '../../database/fence.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { peerAddress } from '../../host-agent/peerAddress.ts';
import type { DomainSpec, DomainStatus } from '../../host-agent/protocol.ts';
import { refuse, tryAgain } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { holdsNothing, isGone, isUnreachable, noteReached, unlessGone } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import type { DiskAccess } from '../storage/drivers/driver.ts';
import { diskAccess, driverOf, isFencedInStorage } from '../storage/drivers/index.ts';
import { diskOf, seedOf, volumesOf } from '../storage/volume.ts';
import type { World } from '../world.ts';
import type { Guests, Moved } from './drivers/driver.ts';
import { guestsOn } from './drivers/index.ts';
import { interfaceSpec } from './interfaces.ts';

interface OnHost {
  instanceId: string;
  hostId: string;
}

const guestOf = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('instance')
    .select(['projectId', 'revision', 'guestHostname', 'vcpus', 'memoryMib', 'firmware'])
    .where('id', '=', p.instanceId),
);

/** The host on which it ran, while that is shut out and nobody has confirmed that it is off. */
const failedHostOf = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('instance as i')
    .innerJoin('host as h', 'h.id', 'i.lastHostId')
    .select(['h.id', 'h.zoneId', 'i.state'])
    .where('i.id', '=', p.instanceId)
    .where('h.state', 'in', ['fencing', 'fenced'])
    .where('h.deadAt', 'is', null)
    .where('h.deletedAt', 'is', null),
);

const interfacesOf = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('networkInterface')
    .select(['id', 'mac', 'linkUp'])
    .where('instanceId', '=', p.instanceId)
    .where('deletedAt', 'is', null)
    .orderBy('index'),
);

const noteProgress = statement((p: Values<{ operationId: string; percent: number }>) =>
  from.updateTable('operation').set({ progress: p.percent }).where('id', '=', p.operationId),
);

/** The instance as its host must run it, from the records alone. */
async function specOf(world: World, instanceId: string, { operationId }: StepContext): Promise<DomainSpec> {
  const { connections } = world.database;
  const [[instance], volumes, interfaces] = await Promise.all([
    guestOf(connections, { instanceId }),
    volumesOf(world, instanceId),
    interfacesOf(connections, { instanceId }),
  ]);
  if (!instance) throw refuse('NOT_FOUND', `instance ${instanceId} is gone`);
  const root = volumes.find((volume) => volume.role === 'root');
  if (!root) throw refuse('INVALID_STATE', `instance ${instanceId} has no root volume`);
  return {
    id: instanceId,
    tags: {
      id: instanceId,
      kind: 'instance',
      operation: operationId,
      revision: instance.revision,
      projectId: instance.projectId,
    },
    hostname: instance.guestHostname ?? instanceId,
    vcpus: instance.vcpus ?? 1,
    memoryMib: instance.memoryMib ?? 128,
    firmware: instance.firmware,
    disks: volumes.map(diskOf),
    seed: seedOf(root, instanceId),
    interfaces: interfaces.map(interfaceSpec),
  };
}

/**
 * Before disks are opened again of which a host has failed, the storage is asked once more: an entry there can be taken away by hand, and the host may have
 * opened them under an address of which nobody knows.
 */
async function mustBeShutOut(world: World, { instanceId, hostId }: OnHost, { isAsked = false } = {}): Promise<void> {
  const { connections } = world.database;
  const [failed] = await failedHostOf(connections, { instanceId });
  // What is started elsewhere has a step of its own for this.
  if (!failed || (isAsked && failed.state === 'restarting')) return;
  const volumes = await volumesOf(world, instanceId);
  const [isFenced, known, openAt] = await Promise.all([
    isFencedInStorage(world, failed, hostId),
    // What an earlier try has started here has them open, too.
    Promise.all([failed.id, hostId].map((id) => clientsOf(connections, { hostId: id }))),
    Promise.all(volumes.map((volume) => driverOf(volume.pool).openAt(world, volume, hostId))),
  ]);
  if (!isFenced)
    throw refuse(
      'PRECONDITION_FAILED',
      'the host that has failed is not shut out of its storage any more: let it fail over again',
    );
  const harmless = new Set(known.flat().flatMap(({ addresses }) => addresses));
  for (const [index, { id }] of volumes.entries()) {
    const at = openAt[index]?.find((address) => !harmless.has(address));
    if (at) throw tryAgain('RESOURCE_BUSY', `volume ${id} is open at ${at}, which is not shut out of its storage`);
  }
}

async function boot(world: World, { instanceId, hostId }: OnHost, context: StepContext): Promise<void> {
  await mustBeShutOut(world, { instanceId, hostId }, { isAsked: true });
  const guests = await guestsOn(world, hostId);
  const [spec] = await Promise.all([specOf(world, instanceId, context), noteReached(world, instanceId, hostId)]);
  await guests.ensureDefined(spec);
  await guests.ensureRunning(instanceId);
}

/** Off the host. What can not be there needs no host that answers. */
async function ensureGuestAbsent(world: World, { instanceId, hostId }: OnHost): Promise<void> {
  try {
    await (await guestsOn(world, hostId)).ensureAbsent(instanceId);
  } catch (error) {
    if (!isUnreachable(error) || !(await holdsNothing(world, instanceId, hostId))) throw error;
  }
}

/** As much of a serial log as goes along with a guest; escaped in JSON, an agent takes up to eight times that. */
const carriedBytes = 512 * 1024;

/** For what is only good to have: an operation is not held up where it can not be done, such as by an agent of an older version. */
async function wherePossible(work: Promise<unknown>): Promise<void> {
  await work.catch((error: { retryable?: boolean }) => {
    if (error.retryable !== false) throw error;
  });
}

/** What the guest has said goes with it, and those who follow it learn that it has left. */
async function carrySerialLog(source: Guests, target: Guests, id: string): Promise<void> {
  const text = await source.serialLog(id, carriedBytes);
  // Empty after a first attempt that did all this.
  if (text !== '') await target.ensureEarlierSerialLog(id, text);
  await source.ensureSerialLogAbsent(id);
}

/** Whether a guest is there, though it may hold still. */
const alive = ({ state }: DomainStatus): boolean => state === 'running' || state === 'paused';

/** libvirt knows a definition, and nothing of how its guest ended: the host has started anew since then. */
const endedWithHost = ({ state, reason }: DomainStatus): boolean => state === 'off' && reason === 'unknown';

/** Why a guest does not run, as the instance's `stateReason` tells. libvirt says "failed" of a QEMU that ended without a word. */
function reasonOf(status: DomainStatus): string {
  if (endedWithHost(status)) return 'hostFailed';
  const { state, reason } = status;
  if (state === 'crashed' || reason === 'failed') return 'crashed';
  return reason === 'shutdown' ? 'guestPowerOff' : reason;
}

interface Observed {
  running: boolean;
  reason: string;
  askedAt: string;
  /** It has ended with its host, and wants to run. */
  isToRunAgain?: boolean;
}

/** Whether a guest is held for a switch-over, which may have come to nothing. */
const holdsStill = ({ state, reason }: DomainStatus): boolean => state === 'paused' && reason === 'migration';

/**
 * Whether it can not be said which of two hosts has the guest: then nothing is removed anywhere. The copy that libvirt makes at the target is
 * paused until the switch-over; what is left at the source after it is paused, too.
 */
const isUndecided = (here: DomainStatus, there: DomainStatus): boolean =>
  (alive(here) && there.state === 'running') || (!alive(here) && holdsStill(there));

/** How a host opens the disks of an instance that is on its way to it. */
const accessTo = async (world: World, instanceId: string, hostId: string): Promise<DiskAccess> =>
  diskAccess(
    world,
    hostId,
    (await volumesOf(world, instanceId)).map((volume) => volume.pool),
  );

/** What is told of a move that an earlier try has made. */
const movedBefore: Moved = { downtimeMs: 0, totalMs: 0, transferredBytes: 0 };

/** Long work on a host is cancelled with its step. */
const cancellation = (): AbortSignal => Context.current().cancellationSignal;

interface Move extends OnHost {
  targetHostId: string;
}

/** The records say that the instance is at home where it was to go. */
const arrive = (world: World, { instanceId, hostId, targetHostId }: Move, context: StepContext): Promise<void> =>
  asHolder(world.database, context, async (tx) => {
    await settleOn(tx, { instanceId, hostId: targetHostId, lastHostId: hostId });
    await dropClaimOn(tx, { instanceId, hostId });
  });

/**
 * Nothing of the guest is at the source of a migration any more. One that has arrived is at home where it is; of any other nothing is left anywhere. A
 * copy that still waits for the switch-over has not arrived.
 */
async function forgetSource(
  world: World,
  { instanceId, hostId, targetHostId }: Move,
  context: StepContext,
): Promise<void> {
  await unlessGone(world, { instanceId, hostId: targetHostId }, async () => {
    const target = await guestsOn(world, targetHostId);
    const there = await target.status(instanceId);
    if (alive(there) && there.reason !== 'migration')
      await arrive(world, { instanceId, hostId, targetHostId }, context);
    else await target.ensureAbsent(instanceId);
  });
}

export const hypervisor = (world: World) => ({
  /** Defined and running. The undo forces it off and forgets the definition. */
  boot: step({
    system: 'libvirt',
    do: (input: OnHost, context) => boot(world, input, context),
    undoText: 'force off, undefine',
    undo: (input) => ensureGuestAbsent(world, input),
  }),

  /** Asks the guest to shut down. Answers false when it did not within the time. */
  shutDown: step({
    system: 'libvirt',
    async do(
      { instanceId, hostId, timeoutSeconds }: OnHost & { timeoutSeconds: number },
      { operationId },
    ): Promise<{ off: boolean }> {
      const guests = await guestsOn(world, hostId);
      try {
        await guests.shutDown(instanceId, timeoutSeconds, { id: `${operationId}-shutdown`, signal: cancellation() });
        return { off: true };
      } catch (error) {
        if ((error as { code?: string }).code === 'TIMEOUT') return { off: false };
        throw error;
      }
    },
    /** A guest that did shut down, for a stop that failed afterwards, is started again. */
    undoText: 'start again',
    async undo({ instanceId, hostId }, { operationId }) {
      await unlessGone(world, { instanceId, hostId }, async () => {
        const guests = await guestsOn(world, hostId);
        await guests.endShutDown(instanceId, `${operationId}-shutdown`);
        await guests.ensureRunning(instanceId);
      });
    },
  }),

  /** What the guest is doing, and the instant, in the database's time, at which it was asked. Whatever was heard before is answered with it. */
  observe: step({
    system: 'libvirt',
    async do({ instanceId, hostId }: OnHost): Promise<Observed> {
      if (await isGone(world, { instanceId, hostId })) {
        const [place] = await isLeftToFailover(world.database.connections, { instanceId, hostId });
        if (place?.left) throw refuse('HOST_FENCED', 'the host of the instance has failed: it is started elsewhere');
        return { running: false, reason: 'hostFailed', askedAt: '' };
      }
      const [now] = await instant(world.database.connections);
      const status = await (await guestsOn(world, hostId)).status(instanceId);
      const seen = { running: alive(status), reason: reasonOf(status), askedAt: now?.askedAt ?? '' };
      if (!endedWithHost(status)) return seen;
      const [again] = await isToRunAgain(world.database.connections, { instanceId, hostId });
      return { ...seen, isToRunAgain: again?.wanted === true };
    },
  }),

  proveShutOut: step({ system: 'rbd', do: (input: OnHost) => mustBeShutOut(world, input) }),

  turnOff: step({ system: 'libvirt', do: (input: OnHost) => ensureGuestAbsent(world, input) }),

  /** A destroyed instance leaves its host; the undo boots it again, as after a power failure. */
  leave: step({
    system: 'libvirt',
    do: (input: OnHost) => ensureGuestAbsent(world, input),
    undoText: 'boot again',
    undo: (input, context) => unlessGone(world, input, () => boot(world, input, context)),
  }),

  reboot: step({
    system: 'libvirt',
    async do({ instanceId, hostId, mode }: OnHost & { mode: 'soft' | 'force' }, { operationId }) {
      const guests = await guestsOn(world, hostId);
      if (mode === 'force') await guests.reset(instanceId);
      else await guests.reboot(instanceId, 60, { id: `${operationId}-reboot`, signal: cancellation() });
    },
  }),

  /** Copies memory and switches over. Asked again after a lost answer, the host that runs the guest decides. */
  migrate: step({
    system: 'libvirt',
    async do(
      {
        instanceId,
        hostId,
        targetHostId,
        bandwidthBytesPerSec,
      }: OnHost & { targetHostId: string; bandwidthBytesPerSec?: number | null },
      { operationId },
    ): Promise<Moved> {
      const [source, host, instance] = await Promise.all([
        guestsOn(world, hostId),
        world.database.prisma.host.findUniqueOrThrow({ where: { id: targetHostId } }),
        world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } }),
      ]);
      const cluster = await world.database.prisma.cluster.findUniqueOrThrow({ where: { id: host.clusterId } });
      const limits = cluster.migration as { bandwidthBytesPerSec: number | null; autoConverge: boolean };
      const hasArrived = async (): Promise<boolean> =>
        alive(await (await guestsOn(world, targetHostId)).status(instanceId));
      const here = await source.status(instanceId);
      if (here.state === 'absent' || here.state === 'off') {
        if (await hasArrived()) return movedBefore;
        throw refuse('INVALID_STATE', `instance ${instance.id} runs on neither host`);
      }
      await noteReached(world, instanceId, targetHostId);
      const moving = source.move(
        instanceId,
        {
          targetAddress: peerAddress(host.address),
          access: await accessTo(world, instanceId, targetHostId),
          bandwidthBytesPerSec: bandwidthBytesPerSec ?? limits.bandwidthBytesPerSec,
          autoConverge: limits.autoConverge,
        },
        {
          id: `${operationId}-migrate`,
          signal: cancellation(),
          onProgress: (percent) => {
            void noteProgress(world.database.connections, { operationId, percent: Math.round(percent) }).catch(
              () => {},
            );
          },
        },
      );
      return moving.catch(async (error: unknown) => {
        // An earlier try has moved it between the look and the order.
        const hasLeft = ['NOT_FOUND', 'INVALID_STATE'].includes((error as { code?: string }).code ?? '');
        if (hasLeft && (await source.status(instanceId)).state !== 'running' && (await hasArrived()))
          return movedBefore;
        throw error;
      });
    },
    undoText: 'abort job, or bring back',
    async undo({ instanceId, hostId, targetHostId }, context) {
      if (await isGone(world, { instanceId, hostId }))
        return forgetSource(world, { instanceId, hostId, targetHostId }, context);
      const source = await guestsOn(world, hostId);
      const { address } = await world.database.prisma.host.findUniqueOrThrow({ where: { id: targetHostId } });
      // Between two looks at a migration under way the guest could switch over, and be removed with the copy at the target.
      await source.endMove(instanceId, peerAddress(address), `${context.operationId}-migrate`);
      // The task is the agent's, and an agent that was started anew knows of none; the migration is libvirt's, and ends only so.
      const here = await source.ensureNotMoving(instanceId);
      let target: Guests;
      let there: DomainStatus;
      try {
        target = await guestsOn(world, targetHostId);
        there = await target.status(instanceId);
      } catch (error) {
        if (!isUnreachable(error)) throw error;
        // The guest has never left, and what would have received it ends with the connection that fed it.
        if (alive(here) && !holdsStill(here)) return;
        if (!(await holdsNothing(world, instanceId, targetHostId))) throw error;
        if (alive(here)) return source.ensureGoesOn(instanceId);
        // It has left, and the host where it arrived has failed: it is started elsewhere as everything of that host.
        if (await isGone(world, { instanceId, hostId: targetHostId }))
          await arrive(world, { instanceId, hostId, targetHostId }, context);
        return;
      }
      if (isUndecided(here, there))
        throw tryAgain(
          'INVALID_STATE',
          `instance ${instanceId} is ${here.state} (${here.reason}) at the source of its migration and ${there.state} (${there.reason}) at the target`,
        );
      // A failure or a cancel after the switch-over: the guest is over there, and only there. It is brought back the way it went.
      if (!alive(here) && alive(there)) {
        const home = await world.database.prisma.host.findUniqueOrThrow({ where: { id: hostId } });
        await target.move(
          instanceId,
          {
            targetAddress: peerAddress(home.address),
            access: await accessTo(world, instanceId, hostId),
            bandwidthBytesPerSec: null,
            autoConverge: true,
          },
          { id: `${context.operationId}-return`, signal: cancellation() },
        );
      }
      await target.ensureAbsent(instanceId);
      if (holdsStill(here)) await source.ensureGoesOn(instanceId);
      await wherePossible(target.ensureSerialLogAbsent(instanceId));
    },
  }),

  /** What a migration may leave at the source: a definition without a guest, and what it has said. */
  leaveSource: step({
    system: 'libvirt',
    async do({ instanceId, hostId, targetHostId }: OnHost & { targetHostId: string }) {
      // A source that is dead leaves nothing, and has nothing more to say.
      await unlessGone(world, { instanceId, hostId }, async () => {
        const source = await guestsOn(world, hostId);
        const here = await source.status(instanceId);
        // What runs there is no leftover: it may be the only guest.
        if (here.state === 'running')
          throw refuse('INVALID_STATE', `instance ${instanceId} still runs on the host that it was to leave`);
        await ensureGuestAbsent(world, { instanceId, hostId });
        // A target that has failed meanwhile takes nothing; its guest is started elsewhere once this has ended.
        await unlessGone(world, { instanceId, hostId: targetHostId }, async () =>
          wherePossible(carrySerialLog(source, await guestsOn(world, targetHostId), instanceId)),
        );
      });
    },
  }),
});
