/** Watches the hosts of the leased shards: whether they answer, what their guests do by themselves, what they use. */
import { askToSettle } from '../acceptance/compute/settle.ts';
import { watchedHosts } from '../database/detection.ts';
import { hostConnections } from '../database/hosts.ts';
import { isHeld, noteConnected, noteConnection } from '../database/leases.ts';
import { from, inSeconds, isAmong, now, statement, type Values } from '../database/statement.ts';
import { BEAT_SECONDS, type HostEvent } from '../host-agent/protocol.ts';
import type { Lease } from '../host-agent/stamp.ts';
import { shardOf } from '../model/shards.ts';
import { metrics } from '../runtime/metrics.ts';
import { detection } from './detection.ts';
import { forgetInstances, recordMeasured } from './measured.ts';
import type { WorkerProcess } from './worker.ts';

const lookMs = 2_000;
const measureMs = 15_000;
/** A host that was not heard for so long does not answer: three signs of life are missing. Until then it may only be restarting its agent. */
const silenceMs = 3 * BEAT_SECONDS * 1_000;
const listenMs = 1_000;
/** A host that stays silent is looked for again after so long. */
const lookAgainMs = 15_000;
/** Whoever misses many hosts at once finds out about so many of them at a time. */
const looksAtOnce = 50;
/** A heartbeat in storage that is older tells that storage does not take it. */
const heartbeatSeconds = 10;
const askMs = 1_000;

export interface Observer {
  stop(): void;
}

const doubtAllBut = statement((p: Values<{ hostId: string; instanceIds: string[] }>) =>
  from
    .updateTable('hostClaim')
    .set({ doubtedAt: now, askAfter: null })
    .where('hostId', '=', p.hostId)
    .where((eb) => eb.not(isAmong(eb.ref('instanceId'), p.instanceIds))),
);

type Claim = Values<{ hostId: string; instanceId: string }>;

const doubt = statement((p: Claim) =>
  from
    .updateTable('hostClaim')
    .set({ doubtedAt: now, askAfter: null })
    .where('hostId', '=', p.hostId)
    .where('instanceId', '=', p.instanceId),
);

const askSoon = statement((p: Claim) =>
  from
    .updateTable('hostClaim')
    .set({ askAfter: null })
    .where('hostId', '=', p.hostId)
    .where('instanceId', '=', p.instanceId),
);

const takeDoubted = statement((p: Values<{ hostIds: string[] }>) =>
  from
    .updateTable('hostClaim as c')
    .from(['instance as i', 'host as h'])
    .set({ askAfter: inSeconds(10) })
    .where('c.doubtedAt', 'is not', null)
    .where((eb) => isAmong(eb.ref('c.hostId'), p.hostIds))
    .where((eb) => eb.or([eb('c.askAfter', 'is', null), eb('c.askAfter', '<', now)]))
    .whereRef('i.id', '=', 'c.instanceId')
    .whereRef('i.hostId', '=', 'c.hostId')
    .where('i.state', '=', 'running')
    .where('i.currentOperationId', 'is', null)
    .where('i.deletedAt', 'is', null)
    .whereRef('h.id', '=', 'c.hostId')
    .where('h.connection', '=', 'connected')
    .returning(['c.instanceId', 'c.hostId']),
);

const projectsOn = statement((p: Values<{ hostIds: string[] }>) =>
  from
    .selectFrom('instance')
    .select(['id', 'projectId'])
    .where((eb) => isAmong(eb.ref('hostId'), p.hostIds)),
);

const fencedAmong = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('host')
    .select('id')
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('state', 'in', ['fencing', 'fenced']),
);

type Connection = 'connected' | 'degraded' | 'disconnected';

interface Watched {
  controller: AbortController;
  /** Its address, under which it is listened to. */
  place: string;
  /** In this process's clock; from the beginning of the watch until anything was heard. */
  heardAt: number;
  /** Its agent gives signs of life, so that silence means something while the stream is open. */
  beats: boolean;
  isOpen: boolean;
  /** After so long a silence others are asked about it. */
  suspectMs: number;
  /** When they may be asked; null while they are. */
  lookAt: number | null;
  /** Whether its last heartbeat could be written; null before it was asked. */
  reachesStorage: boolean | null;
  /** What the records were told last. */
  said: Connection | null;
  saying: Promise<void>;
}

/** `leases` are those of the shards that this process carries now; `holder` is its name in the database's table of leases. */
export function observeHosts(processOf: WorkerProcess, holder: string, leases: () => Lease[]): Observer {
  const { database, log } = processOf;
  const hosts = hostConnections(database);
  const detector = detection(processOf, hosts, holder);
  const watched = new Map<string, Watched>();
  let stopped = false;

  const leaseOf = (hostId: string): Lease | undefined => leases().find(({ shard }) => shard === shardOf(hostId));

  /** What a worker saw before it was suspended says nothing of now: its successor has looked since. */
  async function isMine(hostId: string): Promise<boolean> {
    const [row] = await isHeld(database.connections, { shard: shardOf(hostId), holder });
    return row?.mine === true;
  }

  /** One after the other: of two statements at once the earlier could be the one that stays. */
  function say(hostId: string, host: Watched, connection: Connection): Promise<void> {
    host.saying = host.saying.then(async () => {
      try {
        await noteConnection(database.connections, { hostId, connection, shard: shardOf(hostId), holder });
        if (connection === 'connected') await detector.heard(hostId);
        host.said = connection;
        metrics.hostUp.labels(hostId).set(connection === 'connected' ? 1 : 0);
      } catch (error) {
        log.warn({ hostId, error: String(error) }, 'could not record the state of a host');
      }
    });
    return host.saying;
  }

  /** Says again what holds, for whoever reads when a host was seen, and because a process that watched it before may have spoken late. */
  async function repeatConnected(): Promise<void> {
    const ids = [...watched].flatMap(([id, { said }]) => (said === 'connected' ? [id] : []));
    await noteConnected(database.connections, { ids, shards: ids.map(shardOf), holder });
  }

  /** The guests of a host that do not run, as it says; of those it does not name, it knows nothing. */
  async function handle(hostId: string, event: HostEvent): Promise<void> {
    if (!(await isMine(hostId))) return;
    if (event.type === 'hello') {
      const alive = (event.domains ?? []).filter(({ state }) => state === 'running' || state === 'paused');
      await doubtAllBut(database.connections, { hostId, instanceIds: alive.map(({ id }) => id) });
    } else if (event.domainId && (event.type === 'domain.stopped' || event.type === 'domain.crashed'))
      await doubt(database.connections, { hostId, instanceId: event.domainId });
    else return;
    await askAboutDoubted();
  }

  /**
   * What a host says of a guest may be long over when it is heard, and may be the doing of an operation. So it is only a reason to ask, once
   * no operation is at work on the instance: by one that holds it, so that nothing changes between the answer and what comes of it.
   */
  async function askAboutDoubted(): Promise<void> {
    // Whoever takes one has ten seconds for it; then it is asked about again, because the host did not answer or nobody lived to ask.
    const doubted = await takeDoubted(database.connections, { hostIds: [...watched.keys()] });
    for (const { instanceId, hostId } of doubted) {
      if (await askToSettle(database, instanceId, `observer-${hostId}`))
        log.info({ hostId, instanceId }, 'a guest may have stopped by itself');
      else await askSoon(database.connections, { instanceId, hostId });
    }
  }

  async function watch(hostId: string, host: Watched): Promise<void> {
    const { signal } = host.controller;
    for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
      try {
        const connection = await hosts.reach(hostId);
        let work = Promise.resolve();
        const stream = new AbortController();
        await connection.events(
          (event) => {
            pause = 500;
            if (event.type === 'hello') {
              host.isOpen = true;
              host.beats = event.beatSeconds !== undefined;
              void say(hostId, host, 'connected');
            }
            work = work
              .then(() => handle(hostId, event))
              .catch((error: unknown) => {
                log.warn({ hostId, error: String(error) }, 'could not follow an event of a host');
                // A new stream begins with the states of all guests, so that nothing is missed.
                stream.abort();
              });
          },
          AbortSignal.any([signal, stream.signal]),
          () => {
            host.heardAt = Date.now();
          },
          leaseOf(hostId),
        );
      } catch (error) {
        host.isOpen = false;
        if (signal.aborted) return;
        log.warn({ hostId, error: error instanceof Error ? error.message : String(error) }, 'lost a host');
        await hosts.drop(hostId);
        if (host.said === 'connected') await say(hostId, host, 'degraded');
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  let listenedAt = Date.now();
  let awakeAt = listenedAt;
  /** Says which hosts have fallen silent, whether their stream is broken or only nothing comes through it any more. */
  async function listenForSilence(): Promise<void> {
    const now = Date.now();
    const late = now - listenedAt > 2 * listenMs;
    listenedAt = now;
    // A process that was held up itself has not read yet what hosts have sent meanwhile, and may have lost their streams: it begins anew.
    if (late) {
      awakeAt = now;
      return;
    }
    await Promise.all(
      [...watched].map(async ([hostId, host]) => {
        const silentMs = now - Math.max(host.heardAt, awakeAt);
        if (host.isOpen && !host.beats) return;
        if (silentMs >= host.suspectMs) lookFor(hostId, host, new Date(now - silentMs));
        if (silentMs < silenceMs || host.said === 'disconnected') return;
        log.warn({ hostId, silentMs }, 'a host does not answer');
        await say(hostId, host, 'disconnected');
        void hosts.drop(hostId);
      }),
    );
  }

  let looks = 0;
  /** Asks others about a host, and at once again while that may change what follows. What is not recorded yet is soon. */
  function lookFor(hostId: string, host: Watched, silentSince: Date): void {
    if (host.lookAt === null || Date.now() < host.lookAt || looks >= looksAtOnce) return;
    host.lookAt = null;
    looks += 1;
    void detector
      .look(hostId, silentSince)
      .catch((error: unknown) => {
        log.warn({ hostId, error: String(error) }, 'could not find out about a silent host');
        return false;
      })
      .then((again) => {
        looks -= 1;
        host.lookAt = again || host.said !== 'disconnected' ? Date.now() : Date.now() + lookAgainMs;
      });
  }

  async function look(): Promise<void> {
    const mine = new Set(leases().map(({ shard }) => shard));
    const rows = await watchedHosts(database.connections);
    const patience = new Map(rows.map(({ id, ha }) => [id, (ha as { suspectSeconds: number }).suspectSeconds * 1_000]));
    const wanted = new Map(
      rows.flatMap(({ id, address, sshPort }) =>
        mine.has(shardOf(id)) ? [[id, `${address} ${sshPort}`] as const] : [],
      ),
    );
    const left = [...watched].filter(([id, { place }]) => wanted.get(id) !== place);
    const fenced = new Set(
      (await fencedAmong(database.connections, { ids: left.map(([id]) => id) })).map(({ id }) => id),
    );
    for (const [id, { controller }] of left) {
      controller.abort();
      watched.delete(id);
      // Whoever goes on with it finds it at its new address; and nobody waits for an answer of one that was shut out.
      if (wanted.has(id) || fenced.has(id)) void hosts.drop(id);
    }
    for (const [id, place] of wanted) {
      const suspectMs = patience.get(id) ?? silenceMs;
      const known = watched.get(id);
      if (known) known.suspectMs = suspectMs;
      if (known) continue;
      const host: Watched = {
        controller: new AbortController(),
        place,
        heardAt: Date.now(),
        beats: false,
        isOpen: false,
        suspectMs,
        lookAt: 0,
        reachesStorage: null,
        said: null,
        saying: Promise.resolve(),
      };
      watched.set(id, host);
      void watch(id, host);
    }
  }

  /** What hosts say of their heartbeats, where that is not what they said before. */
  async function noteStorage(said: Map<string, boolean>): Promise<void> {
    const changed = [...said].filter(([id, reaches]) => watched.get(id)?.reachesStorage !== reaches);
    const idsOf = (wanted: boolean): string[] =>
      changed.flatMap(([id, reaches]) => (reaches === wanted && leaseOf(id) ? [id] : []));
    await detector.storageOf({ reaching: idsOf(true), cut: idsOf(false) });
    for (const [id, reaches] of changed) {
      const host = watched.get(id);
      if (host) host.reachesStorage = reaches;
    }
  }

  async function measure(): Promise<void> {
    const ids = [...watched.keys()];
    const rows = await projectsOn(database.connections, { hostIds: ids });
    const projects = new Map(rows.map(({ id, projectId }) => [id, projectId]));
    forgetInstances();
    const reaching = new Map<string, boolean>();
    for (const id of ids) {
      try {
        const measured = await (await hosts.connect(id)).call('host.metrics', {});
        recordMeasured(id, measured, projects);
        reaching.set(id, (measured.heartbeatAgeSeconds ?? 0) < heartbeatSeconds);
      } catch (error) {
        log.debug({ hostId: id, error: String(error) }, 'could not measure a host');
      }
    }
    await noteStorage(reaching);
  }

  async function repeat(work: () => Promise<void>, everyMs: number): Promise<void> {
    while (!stopped) {
      await work().catch((error: unknown) => log.warn({ error: String(error) }, 'could not look after the hosts'));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  void repeat(look, lookMs);
  void repeat(measure, measureMs);
  void repeat(repeatConnected, measureMs);
  void repeat(listenForSilence, listenMs);
  void repeat(askAboutDoubted, askMs);
  return {
    stop() {
      stopped = true;
      for (const { controller } of watched.values()) controller.abort();
    },
  };
}
