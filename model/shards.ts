/** Every message for a host goes through one of these queues, and each queue through one process at a time. */
export const shardCount = 64;

/** FNV-1a over the id: the same host always lands on the same shard. */
export function shardOf(hostId: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < hostId.length; index++) hash = Math.imul(hash ^ hostId.charCodeAt(index), 0x01000193);
  return (hash >>> 0) % shardCount;
}

export const shardQueue = (shard: number): string => `hosts-${shard}`;
export const hostQueue = (hostId: string): string => shardQueue(shardOf(hostId));
