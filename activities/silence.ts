/** Hosts that do not answer: what is refused before anything waits for them, and what is done without them. */
import { giveUpPlace, notePlaceReached } from '../database/claims.ts';
import type { Queryable } from '../database/database.ts';
import { isShutOut } from '../database/fence.ts';
import { isSilent } from '../database/placement.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { AgentError } from '../host-agent/agentError.ts';
import type { HostInStep } from '../host-agent/connection.ts';
import { refuse } from './failure.ts';
import type { World } from './world.ts';

const deadHost = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('host')
    .select('id')
    .where('id', '=', p.hostId)
    .where('deadAt', 'is not', null)
    .where('state', 'not in', ['fencing', 'fenced', 'reinstating']),
);

export const isUnreachable = (error: unknown): boolean =>
  error instanceof AgentError && (error.code === 'HOST_UNREACHABLE' || error.code === 'HOST_FENCED');

/** The host itself, or null when it does not answer: what it keeps is renewed when it is connected. */
export const ifItAnswers = (world: World, hostId: string): Promise<HostInStep | null> =>
  world.anyHost(hostId, hostId).catch((error: unknown) => {
    if (isUnreachable(error)) return null;
    throw error;
  });

/** Whether an operator has confirmed that the host is dead, and nothing of it comes back: what lay on its own disks is lost. */
export async function isDead(world: World, hostId: string): Promise<boolean> {
  const [dead] = await deadHost(world.database.connections, { hostId });
  return dead !== undefined;
}

export interface GuestPlace {
  instanceId: string;
  hostId: string;
}

/** Whether no guest of the instance can do anything there any more: the host is dead, or shut out of all that the guest had. */
export async function isGone(world: World, { instanceId, hostId }: GuestPlace): Promise<boolean> {
  const [place] = await isShutOut(world.database.connections, { instanceId, hostId });
  return place?.gone === true;
}

/** Work on a guest, which has no meaning any more when nothing of it is there. */
export async function unlessGone(world: World, place: GuestPlace, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isUnreachable(error) || !(await isGone(world, place))) throw error;
  }
}

const fencedHost = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('id').where('id', '=', p.hostId).where('fencedAt', 'is not', null),
);

/** What can only be done on the host itself, and has no meaning while that is shut out and does not answer: whoever takes it back brings all of it in line. */
export async function unlessFenced(world: World, hostId: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof AgentError && error.retryable) && !isUnreachable(error)) throw error;
    const [fenced] = await fencedHost(world.database.connections, { hostId });
    if (!fenced) throw error;
  }
}

const goneSilent = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('host as h')
    .select(['h.id', 'h.fencedAt'])
    .where('h.id', '=', p.hostId)
    .where(isSilent)
    .where('h.deadAt', 'is', null),
);

/**
 * For work that only this host can do. Of one that is dead, or of what is gone there, the work may still be given up or taken back.
 *
 * @throws HOST_UNREACHABLE, or HOST_FENCED, for good
 */
export async function mustAnswer(
  client: Queryable,
  instance: { id: string; hostId: string | null } | null,
): Promise<void> {
  const { id: instanceId = '', hostId = null } = instance ?? {};
  if (hostId === null) return;
  const [silent] = await goneSilent(client, { hostId });
  if (!silent) return;
  if (!silent.fencedAt)
    throw refuse('HOST_UNREACHABLE', 'the host of the instance does not answer, and nothing can be done on it', {
      hostId,
    });
  const [place] = await isShutOut(client, { instanceId, hostId });
  if (!place?.gone)
    throw refuse('HOST_FENCED', 'the host of the instance has failed, and nothing can be done on it', { hostId });
}

/**
 * From now on something of the instance may be on the host. Said before the first request that could bring it about.
 *
 * @throws INVALID_STATE when it has no place there any more: an undo that could not reach the host has given it up meanwhile.
 */
export async function noteReached(world: World, instanceId: string, hostId: string): Promise<void> {
  const [noted] = await notePlaceReached(world.database.connections, { instanceId, hostId });
  if (!noted) throw refuse('INVALID_STATE', `instance ${instanceId} has no place on host ${hostId} any more`);
}

/**
 * Nothing of the instance can be on the host: it is gone there, or the host was never asked for anything. Then it never will be, by a try of a step
 * that comes late: the place there is given up with this answer.
 */
export async function holdsNothing(world: World, instanceId: string, hostId: string): Promise<boolean> {
  if (await isGone(world, { instanceId, hostId })) return true;
  const [nothing] = await giveUpPlace(world.database.connections, { instanceId, hostId });
  return nothing !== undefined;
}
