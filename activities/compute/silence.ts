/** Hosts that do not answer: what is refused before anything waits for them, and what is done without them. */
import { type Client, run } from '../../database/database.ts';
import { silent } from '../../database/placement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import { refuse } from '../failure.ts';
import type { World } from '../world.ts';

export const isUnreachable = (error: unknown): boolean =>
  error instanceof AgentError && error.code === 'HOST_UNREACHABLE';

/** Whether an operator has confirmed that the host is dead: nothing is on it any more. */
export async function isDead(world: World, hostId: string): Promise<boolean> {
  const [dead] = await run(world.database.pool, `SELECT 1 FROM "host" WHERE id = $1 AND "deadAt" IS NOT NULL`, [
    hostId,
  ]);
  return dead !== undefined;
}

/** Work on a guest, which has no meaning any more when its host is dead: there is no guest then. */
export async function unlessDead(
  world: World,
  hostId: string,
  work: (agent: HostInStep) => Promise<unknown>,
): Promise<void> {
  try {
    await work(await world.host(hostId));
  } catch (error) {
    if (!isUnreachable(error) || !(await isDead(world, hostId))) throw error;
  }
}

/** For work that only this host can do. Of a dead one the work may still be given up or taken back. @throws HOST_UNREACHABLE for good */
export async function mustAnswer(client: { query: Client['query'] }, hostId: string | null): Promise<void> {
  if (hostId === null) return;
  const [gone] = await run(
    client as Client,
    `SELECT 1 FROM "host" h WHERE h.id = $1 AND ${silent} AND h."deadAt" IS NULL`,
    [hostId],
  );
  if (gone)
    throw refuse('HOST_UNREACHABLE', 'the host of the instance does not answer, and nothing can be done on it', {
      hostId,
    });
}

/** From now on something of the instance may be on the host. Said before the first request that could bring it about. */
export const noteReached = (world: World, instanceId: string, hostId: string): Promise<unknown> =>
  run(
    world.database.pool,
    `UPDATE "hostClaim" SET "reachedAt" = now() WHERE "instanceId" = $1 AND "hostId" = $2 AND "reachedAt" IS NULL`,
    [instanceId, hostId],
  );

/** Nothing of the instance can be on the host: it was never asked for anything, or it is dead. */
export async function holdsNothing(world: World, instanceId: string, hostId: string): Promise<boolean> {
  const [nothing] = await run(
    world.database.pool,
    `SELECT 1 FROM "host" WHERE id = $2 AND ("deadAt" IS NOT NULL OR EXISTS (
       SELECT 1 FROM "hostClaim" c WHERE c."instanceId" = $1 AND c."hostId" = $2 AND c."reachedAt" IS NULL))`,
    [instanceId, hostId],
  );
  return nothing !== undefined;
}
