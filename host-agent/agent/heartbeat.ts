/**
 * The heartbeat of this host: a few bytes that change every two seconds, in storage that other hosts see too. While everybody hears the host nobody
 * reads them; when it has fallen silent, another host looks whether they still change.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Problem } from '../problem.ts';
import type { HeartbeatPlace } from '../protocol/witness.ts';
import { BEAT_SECONDS, type Calls } from '../protocol.ts';
import { type FilePools, heartbeatFolder } from './files.ts';
import type { Log } from './log.ts';
import { readIfExists, writeFileAtomically } from './paths.ts';
import type { Storage } from './storage.ts';

const LOOK_MS = 250;
/** Who has not written for so long does not know whether others could. */
const FRESH_MS = 2.5 * BEAT_SECONDS * 1_000;

/** Texts of heartbeats by host; hosts without one are missing. */
type Texts = Record<string, string>;

interface Shore {
  /** Answers under which addresses this host is known there, where it is known by such. */
  write(hostId: string, text: string): Promise<string[]>;
  remove(hostId: string): Promise<void>;
  read(hostIds: string[]): Promise<Texts>;
}

interface Kept {
  hostId: string;
  places: HeartbeatPlace[];
}

export interface Heartbeat {
  ensure(wanted: Kept): Promise<void>;
  watch(asked: Calls['heartbeat.watch']['input']): Promise<Calls['heartbeat.watch']['result']>;
  /** Seconds since the last one that could be written, in the place where that is longest ago; null where there is nothing to write. */
  ageSeconds(): number | null;
  /** Under which addresses this host was known when it was written last. */
  clients(): { storageClusterId: string; addresses: string[] }[];
}

const keyOf = (place: HeartbeatPlace): string =>
  place.type === 'rbd' ? `${place.storageClusterId}/${place.pool}` : place.poolId;

/** `keptAt` is a file: an agent that is started anew goes on without being asked. */
export function heartbeat(
  { storage, files, log }: { storage: Storage; files: FilePools; log: Log },
  { keptAt, bootId }: { keptAt: string; bootId: string },
): Heartbeat {
  let kept: Kept | undefined;
  let count = 0;
  /** When a place was written last, or first to be written, in this process's clock. */
  const writtenAt = new Map<string, number>();
  /** Storage that hangs holds up one of them, and not one more every two seconds. */
  const writing = new Set<string>();
  const failing = new Set<string>();
  const clients = new Map<string, string[]>();

  function shoreOf(place: HeartbeatPlace): Shore {
    if (place.type === 'rbd') {
      const { type: _, ...pool } = place;
      return {
        write: async (host, text) =>
          (await storage.onPool<{ addresses: string[] }>('write_heartbeat', pool, { host, text })).addresses,
        remove: (host) => storage.onPool('remove_heartbeat', pool, { host }),
        read: (hosts) => storage.onPool('read_heartbeats', pool, { hosts }),
      };
    }
    const path = async (host: string): Promise<string> =>
      join(await files.directory(place.poolId), heartbeatFolder, host);
    return {
      async write(host, text) {
        const file = await path(host);
        await mkdir(dirname(file), { recursive: true, mode: 0o711 });
        await writeFile(file, text, { mode: 0o600 });
        return [];
      },
      async remove(host) {
        await rm(await path(host), { force: true });
      },
      async read(hosts) {
        const found: Texts = {};
        for (const host of hosts) {
          const text = await readFile(await path(host), 'utf8').catch(() => undefined);
          if (text !== undefined) found[host] = text;
        }
        return found;
      },
    };
  }

  async function beatIn(place: HeartbeatPlace, hostId: string): Promise<void> {
    const key = keyOf(place);
    if (writing.has(key)) return;
    writing.add(key);
    try {
      const addresses = await shoreOf(place).write(hostId, `${bootId} ${count}`);
      if (place.type === 'rbd') clients.set(place.storageClusterId, addresses);
      writtenAt.set(key, performance.now());
      if (failing.delete(key)) log('info', 'the heartbeat is written again', { place: key });
    } catch (error) {
      if (!failing.has(key)) log('warn', 'the heartbeat can not be written', { place: key, reason: String(error) });
      failing.add(key);
    } finally {
      writing.delete(key);
    }
  }

  function beat(): void {
    count += 1;
    for (const place of kept?.places ?? []) void beatIn(place, kept?.hostId ?? '');
  }

  function follow(wanted: Kept): void {
    kept = wanted;
    const keys = new Set(wanted.places.map(keyOf));
    for (const key of writtenAt.keys()) if (!keys.has(key)) writtenAt.delete(key);
    const clusters = new Set(wanted.places.map((place) => (place.type === 'rbd' ? place.storageClusterId : '')));
    for (const id of clients.keys()) if (!clusters.has(id)) clients.delete(id);
    for (const key of keys) if (!writtenAt.has(key)) writtenAt.set(key, performance.now());
    beat();
  }

  void readIfExists(keptAt)
    .then((text) => {
      if (text !== undefined && !kept) follow(JSON.parse(text) as Kept);
    })
    .catch((error: unknown) => log('error', 'where heartbeats go is not known', { reason: String(error) }));
  setInterval(beat, BEAT_SECONDS * 1_000).unref();

  /** Of the hosts whose heartbeat was there, which one moved; nothing where this host can not write itself. */
  async function watchIn(
    place: HeartbeatPlace,
    hostIds: string[],
    endsAt: number,
    moved: Set<string>,
  ): Promise<string[]> {
    const shore = shoreOf(place);
    const first = await shore.read(hostIds);
    const seen = hostIds.filter((hostId) => first[hostId] !== undefined);
    while (seen.some((hostId) => !moved.has(hostId)) && performance.now() < endsAt) {
      await setTimeout(Math.min(LOOK_MS, Math.max(1, endsAt - performance.now())));
      const now = await shore.read(seen.filter((hostId) => !moved.has(hostId)));
      for (const [hostId, text] of Object.entries(now)) if (text !== first[hostId]) moved.add(hostId);
    }
    const own = writtenAt.get(keyOf(place));
    const isFresh = own !== undefined && !failing.has(keyOf(place)) && performance.now() - own < FRESH_MS;
    return isFresh ? seen : [];
  }

  return {
    async ensure(wanted) {
      await writeFileAtomically(keptAt, `${JSON.stringify(wanted)}\n`, 0o600);
      const before = kept;
      follow(wanted);
      const keys = new Set(wanted.places.map(keyOf));
      for (const place of before?.places ?? [])
        if (!keys.has(keyOf(place)) && before)
          await shoreOf(place)
            .remove(before.hostId)
            .catch((error: unknown) =>
              log('warn', 'an old heartbeat stays', { place: keyOf(place), reason: String(error) }),
            );
    },
    async watch({ hostIds, places, withinMs }) {
      const endsAt = performance.now() + withinMs;
      const moved = new Set<string>();
      const looks = await Promise.allSettled(
        places.map((place) =>
          Promise.race([
            watchIn(place, hostIds, endsAt, moved),
            // Storage that hangs says nothing.
            setTimeout(withinMs + LOOK_MS, null, { ref: false }).then(() => {
              throw new Problem('TIMEOUT', 'the storage does not answer', true);
            }),
          ]),
        ),
      );
      const judged = new Set(looks.flatMap((look) => (look.status === 'fulfilled' ? look.value : [])));
      return { moved: [...moved], still: [...judged].filter((hostId) => !moved.has(hostId)) };
    },
    clients: () => [...clients].map(([storageClusterId, addresses]) => ({ storageClusterId, addresses })),
    ageSeconds() {
      if (!kept || kept.places.length === 0) return null;
      return Math.round((performance.now() - Math.min(...writtenAt.values())) / 1_000);
    },
  };
}
