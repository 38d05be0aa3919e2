/** The heartbeats that hosts leave in the storage that they share, by which others know that they live. */
import { heartbeatPlaces } from '../../database/heartbeats.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import type { HeartbeatPlace } from '../../host-agent/protocol.ts';
import { ifItAnswers } from '../silence.ts';
import type { World } from '../world.ts';

async function leaveIn(agent: HostInStep, hostId: string, places: HeartbeatPlace[]): Promise<void> {
  try {
    await agent.call('heartbeat.ensure', { hostId, places });
  } catch (error) {
    // An agent of before leaves none, until its host is connected again: nobody can testify by storage that it lives, nor that it does not.
    if (!(error instanceof AgentError && error.code === 'NOT_SUPPORTED')) throw error;
  }
}

/** A host leaves them where its cluster's hosts do, and nowhere else. One that does not answer is told when it is connected. */
export async function alignHeartbeats(world: World, hostId: string): Promise<void> {
  const agent = await ifItAnswers(world, hostId);
  if (agent) await leaveIn(agent, hostId, await heartbeatPlaces(world.database.connections, hostId));
}

/** A host that goes, and answers, takes them along. */
export const endHeartbeats = async (world: World, hostId: string): Promise<void> =>
  leaveIn(await world.host(hostId), hostId, []);
