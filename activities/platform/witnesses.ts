/** Who says whether a host is down. */
import { from, statement, type Values } from '../../database/statement.ts';
import type { World } from '../world.ts';

const connectionOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select(['connection', 'health', 'healthReason', 'fencedAt']).where('id', '=', p.hostId),
);

export interface Verdict {
  isDown: boolean;
  /** What it says of the host, for the reader of an error. */
  why: string;
}

/** Whether it is proven that a host does not serve any more. One that is shut out already serves nobody, whether it answers or not. */
export async function isProvenDown(
  { database }: World,
  hostId: string,
  { confirmDead }: { confirmDead: boolean },
): Promise<Verdict> {
  const [host] = await connectionOf(database.connections, { hostId });
  if (host?.fencedAt) return { isDown: true, why: 'it is shut out of its storage' };
  // Who was asked about it sees it, or can not tell: then it takes the word of a person.
  if (host?.health === 'unreachable' && !confirmDead)
    return { isDown: false, why: host.healthReason ?? 'it is not proven to be down' };
  if (host?.connection === 'disconnected') return { isDown: true, why: 'it does not answer' };
  return { isDown: false, why: `it is ${host?.connection ?? 'gone'}` };
}
