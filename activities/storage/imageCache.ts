/** Copies of images in pools: who makes one, and which go. Those that nothing lives on any more go when the pool needs their room. */
import { transaction } from '../../database/database.ts';
import {
  beginRemoval,
  claimCopy as claim,
  dropRemoved,
  lockNextToGo,
  stayCopy,
  takeOverRemoval,
  takeOverRemovals,
  useCopy,
} from '../../database/imageCopies.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { poolOf } from './pool.ts';
import { poolAgent } from './poolHost.ts';

type CacheState = 'ready' | 'mine' | 'elsewhere';

/**
 * Makes this operation the one that imports, unless the copy is there or another operation is at work on it. The work of an
 * operation that has ended without finishing it is taken over. A copy that has no room in the pool is refused by the database.
 */
export async function claimCopy(
  world: World,
  { imageId, poolId }: { imageId: string; poolId: string },
  operationId: string,
): Promise<CacheState> {
  const { connections } = world.database;
  const [mine] = await claim(connections, { imageId, poolId, operationId });
  if (mine) return 'mine';
  const [ready] = await useCopy(connections, { imageId, poolId });
  return ready ? 'ready' : 'elsewhere';
}

/** Makes the next copy that may go this operation's own. A placement that counts on a copy holds its row until its volumes name it. */
async function takeNext(world: World, poolId: string, operationId: string, unusedForSeconds: number, past: string[]) {
  return transaction(world.database, async (tx) => {
    const [next] = await lockNextToGo(tx, { poolId, unusedForSeconds, past });
    if (!next) return null;
    // Asked once more under the lock: a volume may have come to live on it while this waited.
    const [mine] = await beginRemoval(tx, { imageId: next.imageId, poolId, operationId });
    return { imageId: next.imageId, isMine: mine !== undefined };
  });
}

/** Removes a copy that this operation has made its own. Answers false when something still lives on it: then it stays. */
async function removeOwn(
  world: World,
  { hostId, poolId, imageId, operationId }: { hostId: string; poolId: string; imageId: string; operationId: string },
  signal: AbortSignal,
): Promise<boolean> {
  const own = { imageId, poolId, operationId };
  try {
    const pool = await poolOf(world, poolId);
    const agent = await poolAgent(world, hostId, pool);
    await driverOf(pool).ensureAbsent(agent, pool, { of: 'image', id: imageId }, { signal, timeoutMs: 600_000 });
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'INVALID_STATE') throw error;
    await stayCopy(world.database.connections, own);
    return false;
  }
  await dropRemoved(world.database.connections, own);
  return true;
}

/**
 * Ends the removal of a copy that nobody is at work on any more. Half removed it may still look whole: it must go before another is
 * made.
 */
export async function endRemoval(
  world: World,
  input: { hostId: string; poolId: string; imageId: string; operationId: string },
  signal: AbortSignal,
): Promise<void> {
  const { imageId, poolId, operationId } = input;
  const [abandoned] = await takeOverRemoval(world.database.connections, { imageId, poolId, operationId });
  if (abandoned) await removeOwn(world, input, signal);
}

/**
 * Removes the copies that may go, those of least use first, and answers which. What the pool says is still in use, by what lies in its
 * trash, stays and counts as used just now.
 */
export async function removeUnused(
  world: World,
  input: { hostId: string; poolId: string; operationId: string; unusedForSeconds: number },
  signal: AbortSignal,
): Promise<string[]> {
  const { poolId, operationId, unusedForSeconds } = input;
  const removed: string[] = [];
  const past: string[] = [];
  const remove = async (imageId: string): Promise<void> => {
    if (await removeOwn(world, { ...input, imageId }, signal)) removed.push(imageId);
  };
  for (const { imageId } of await takeOverRemovals(world.database.connections, { poolId, operationId }))
    await remove(imageId);
  for (;;) {
    signal.throwIfAborted();
    const next = await takeNext(world, poolId, operationId, unusedForSeconds, past);
    if (!next) return removed;
    past.push(next.imageId);
    if (next.isMine) await remove(next.imageId);
  }
}
