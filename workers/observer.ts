/** Watches the hosts of the leased shards: whether they answer, what their guests do by themselves, what they use. */
import { askToSettle } from '../acceptance/compute/settle.ts';
import { awayHosts, changedHosts, patienceOfClusters, watchedHosts, watchedStates } from '../database/detection.ts';
import { noteClients } from '../database/fence.ts';
import { hostConnections } from '../database/hosts.ts';
import { noteConnected, noteConnection, tellShards } from '../database/leases.ts';
import { from, inSeconds, isAmong, now, statement, type Values } from '../database/statement.ts';
import { BEAT_SECONDS, type HostEvent, type HostMetrics } from '../host-agent/protocol.ts';
import type { Lease } from '../host-agent/stamp.ts';
import { shardOf } from '../model/shards.ts';
import { inLine } from '../runtime/inLine.ts';
import { metrics, tellWhenAsked } from '../runtime/metrics.ts';
import { type Moment, momentNow, passedMs } from '../runtime/moment.ts';
import { detection, type SaidOfItself } from './detection.ts';
import { forgetAllBut, recordMeasured } from './measured.ts';
import type { WorkerProcess } from './worker.ts';

const lookMs = 2_000;
/** Whoever has not looked for so long reads all its hosts anew: what was changed is told for a minute. */
const lookedMs = 30_000;
const measureMs = 15_000;
/** A host that was not heard for so long does not answer: three signs of life are missing. Until then it may only be restarting its agent. */
const silenceMs = 3 * BEAT_SECONDS * 1_000;
const listenMs = 500;
/** Whoever listens so much later than it meant to was held up itself. */
const heldUpMs = 2_000;
/** Whoever has not listened to all for so long can not tell who is silent. */
const heardOutMs = 5_000;
/** A host that stays silent is looked for again after so long. */
const lookAgainMs = 15_000;
/** Whoever misses many hosts at once finds out about so many of them at a time. */
const looksAtOnce = 50;
/** A heartbeat in storage that is older tells that storage does not take it. */
const heartbeatSeconds = 10;
const askMs = 1_000;
const measuredAtOnce = 20;
/**
 * Whoever begins to carry many hosts connects to so many at a time. To log in is work for both sides: all at once would all be too late, and try again,
 * and never come to an end.
 */
const connectingAtOnce = 200;
/** A host that does not answer may only be restarting its agent: not before it misses so many tries in a row it waits behind those that are away. */
const missesOfAway = 2;
/** When a host was seen last is written for so many at a time. */
const repeatedAtOnce = 500;
/** A busy hypervisor may miss one. */
const silentMeasures = 2;

export interface Observer {
  stop(): void;
}

interface Saying {
  hostId: string;
  shard: number;
  holder: string;
}

/** What a worker heard before it was suspended says nothing of now: its successor has listened since. */
const doubtOf = (p: Values<Saying>) =>
  from
    .updateTable('hostClaim')
    .set({ doubtedAt: now, askAfter: null })
    .where('hostId', '=', p.hostId)
    .where((eb) =>
      eb.exists(
        from
          .selectFrom('shardLease')
          .select('shard')
          .where('shard', '=', p.shard)
          .where('holder', '=', p.holder)
          .where('expiresAt', '>', now),
      ),
    )
    .returning('instanceId');

export const doubtAllBut = statement((p: Values<Saying & { instanceIds: string[] }>) =>
  doubtOf(p).where((eb) => eb.not(isAmong(eb.ref('instanceId'), p.instanceIds))),
);

export const doubt = statement((p: Values<Saying & { instanceId: string }>) =>
  doubtOf(p).where('instanceId', '=', p.instanceId),
);

const askSoon = statement((p: Values<{ hostId: string; instanceId: string }>) =>
  from
    .updateTable('hostClaim')
    .set({ askAfter: null })
    .where('hostId', '=', p.hostId)
    .where('instanceId', '=', p.instanceId),
);

/** Those whose turn it is, which are asked about from then on by whoever took them. */
export const takeDoubted = statement((p: Values<{ shards: number[] }>) =>
  from
    .updateTable('hostClaim as c')
    .from(['instance as i', 'host as h'])
    .set({ askAfter: inSeconds(10) })
    .where('c.doubtedAt', 'is not', null)
    .where((eb) => isAmong(eb.ref('h.shard'), p.shards))
    .where((eb) => eb.or([eb('c.askAfter', 'is', null), eb('c.askAfter', '<', now)]))
    .whereRef('i.id', '=', 'c.instanceId')
    .whereRef('i.hostId', '=', 'c.hostId')
    .where('i.state', '=', 'running')
    .where('i.currentOperationId', 'is', null)
    .where('i.deletedAt', 'is', null)
    .whereRef('h.id', '=', 'c.hostId')
    .where('h.connection', '=', 'connected')
    // What the record says of one that was shut out is nobody's word any more.
    .where('h.state', 'in', [...watchedStates])
    .returning(['c.instanceId', 'c.hostId']),
);

const projectsOf = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('instance')
    .select(['id', 'projectId'])
    .where((eb) => isAmong(eb.ref('id'), p.ids)),
);

const fencedAmong = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('host')
    .select('id')
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('state', 'in', ['fencing', 'fenced']),
);

type Client = NonNullable<HostMetrics['storageClients']>[number];
type Connection = 'connected' | 'degraded' | 'disconnected';

interface Watched {
  controller: AbortController;
  shard: number;
  clusterId: string;
  /** Its address, under which it is listened to. */
  place: string;
  /** It is in maintenance, and nobody misses it. */
  mayBeOff: boolean;
  /** In the clock of this process that nobody sets; from the first try to reach it until anything was heard. Null before that: nobody has listened. */
  heardAt: number | null;
  /** From when on it was silent when others were asked last, and when that was by the clock on the wall: told again, it is the same. */
  silence: { from: number; since: Date } | null;
  /** Its agent gives signs of life, so that silence means something while the stream is open. */
  beats: boolean;
  isOpen: boolean;
  /** How often in a row it did not answer when it was tried; as often as it takes, where it did not answer the process before. */
  missed: number;
  /** The records said that it is disconnected when this process began with it. */
  wasAway: boolean;
  /** Since when it waits for its turn to be tried, while that is no silence: nobody has said yet that it is disconnected. */
  waitsSince: number | null;
  /** When they may be asked; null while they are. */
  lookAt: number | null;
  /** What it said of itself last, and the records were told; nothing before it was asked. */
  told: Map<SaidOfItself, boolean>;
  /** How often in a row its hypervisor did not answer. */
  hypervisorMissed: number;
  /** Under which addresses storage clusters know it, as the records were told last. */
  clients: string;
  /** What the records were told last. */
  said: Connection | null;
  saying: Promise<void>;
  /** How often more it is being said. */
  toSay: number;
}

/** What this process carries now. */
export interface Carried {
  shards(): number[];
  leaseOf(shard: number): Lease | undefined;
}

/** `holder` is the name of this process in the database's table of leases. */
export function observeHosts(processOf: WorkerProcess, holder: string, { shards, leaseOf }: Carried): Observer {
  const { database, log } = processOf;
  const hosts = hostConnections(database);
  const detector = detection(processOf, hosts, holder);
  const watched = new Map<string, Watched>();
  // Of one that another process carries by now, or that was shut out or deleted, nothing is told: what was so last would stand for ever. Nor is it that one
  // in maintenance is off: nobody misses it.
  tellWhenAsked(metrics.hostUp, () =>
    [...watched].flatMap(([host, { said, mayBeOff }]) =>
      said === null || (mayBeOff && said !== 'connected')
        ? []
        : [{ labels: { host }, value: said === 'connected' ? 1 : 0 }],
    ),
  );
  let stopped = false;

  const connected = new Set<string>();
  let noting: Promise<unknown> = Promise.resolve();
  let nextNote: Promise<Map<string, boolean>> | undefined;
  /**
   * All that have come meanwhile are noted together, as soon as the note before is through. Answers of which it was noted, and whether something else was
   * concluded of them before.
   */
  function noteTogether(hostId: string): Promise<Map<string, boolean>> {
    connected.add(hostId);
    nextNote ??= noting.then(async () => {
      nextNote = undefined;
      const ids = [...connected];
      connected.clear();
      const rows = await noteConnected(database.connections, { ids, holder });
      return new Map(rows.map(({ id, isIll }) => [id, isIll]));
    });
    noting = nextNote.catch(() => {});
    return nextNote;
  }

  /** Answers whether the records have taken it: they do from the one who carries the host, and a lease may lapse for a moment. */
  async function record(hostId: string, { shard }: Watched, connection: Connection): Promise<boolean> {
    if (connection === 'connected') {
      const noted = await noteTogether(hostId);
      if (noted.get(hostId)) await detector.heard(hostId);
      return noted.has(hostId);
    }
    // What is about to be noted of it would come after this.
    connected.delete(hostId);
    await noting;
    return (await noteConnection(database.connections, { hostId, connection, shard, holder })).length > 0;
  }

  /** One after the other: of two statements at once the earlier could be the one that stays. What the records do not take is said again. */
  function say(hostId: string, host: Watched, connection: Connection): Promise<void> {
    host.toSay += 1;
    host.saying = host.saying.then(async () => {
      try {
        if (!(await record(hostId, host, connection))) return;
        host.said = connection;
      } catch (error) {
        log.warn({ hostId, error: String(error) }, 'could not record the state of a host');
      } finally {
        host.toSay -= 1;
      }
    });
    return host.saying;
  }

  let repeated = 0;
  /**
   * Says again what holds, for whoever reads when a host was seen: of some after the others where there are many. And of those of which the records say
   * something else: a process that watched them before may have spoken late, and a step that has reached one says so itself.
   */
  async function repeatSaid(): Promise<void> {
    const rows = await awayHosts(database.connections, { shards: shards() });
    const away = new Map(rows.map(({ id, connection }) => [id, connection]));
    const all = [...watched.keys()];
    const from = repeated >= all.length ? 0 : repeated;
    repeated = from + repeatedAtOnce;
    const again = new Set([...all.slice(from, repeated), ...away.keys()]);
    for (const [id, host] of watched) {
      // What is being said of it is newer.
      if (host.toSay > 0) continue;
      if (host.said === 'disconnected' && away.get(id) !== 'disconnected') void say(id, host, 'disconnected');
      if (host.said === 'connected' && again.has(id)) void say(id, host, 'connected');
    }
  }

  /**
   * Of which shards it is known of every host whether it is connected: of those that were disconnected before, the records say so until they are heard.
   * Whoever has not listened for silence just now knows of none.
   */
  async function tell(): Promise<void> {
    if (heardOutAt === null || passedMs(heardOutAt) > heardOutMs) return;
    const untold = new Set(
      [...watched.values()].flatMap(({ said, wasAway, shard }) => (said === null && !wasAway ? [shard] : [])),
    );
    const told = shards().filter((shard) => whole.has(shard) && !untold.has(shard));
    await tellShards(database.connections, { shards: told, holder });
  }

  /** The guests of a host that do not run, as it says; of those it does not name, it knows nothing. */
  async function handle(hostId: string, event: HostEvent): Promise<void> {
    const { connections } = database;
    const saying = { hostId, shard: shardOf(hostId), holder };
    let doubted: unknown[] = [];
    if (event.type === 'hello') {
      const alive = (event.domains ?? []).filter(({ state }) => state === 'running' || state === 'paused');
      doubted = await doubtAllBut(connections, { ...saying, instanceIds: alive.map(({ id }) => id) });
    } else if (event.domainId && (event.type === 'domain.stopped' || event.type === 'domain.crashed'))
      doubted = await doubt(connections, { ...saying, instanceId: event.domainId });
    if (doubted.length > 0) await askAboutDoubted();
  }

  /**
   * What a host says of a guest may be long over when it is heard, and may be the doing of an operation. So it is only a reason to ask, once
   * no operation is at work on the instance: by one that holds it, so that nothing changes between the answer and what comes of it.
   */
  async function askAboutDoubted(): Promise<void> {
    // Whoever takes one has ten seconds for it; then it is asked about again, because the host did not answer or nobody lived to ask.
    const doubted = await takeDoubted(database.connections, { shards: shards() });
    for (const { instanceId, hostId } of doubted) {
      if (await askToSettle(database, instanceId, 'guest-stopped'))
        log.info({ hostId, instanceId }, 'a guest may have stopped by itself');
      else await askSoon(database.connections, { instanceId, hostId });
    }
  }

  /** Those that did not answer the last times have a line of their own: each of them keeps its place for long, and holds up none that answers. */
  const lines = { answering: inLine(connectingAtOnce), away: inLine(connectingAtOnce) };

  async function watch(hostId: string, host: Watched): Promise<void> {
    const { signal } = host.controller;
    for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
      try {
        host.waitsSince = host.said === 'disconnected' ? null : performance.now();
        const connection = await lines[host.missed < missesOfAway ? 'answering' : 'away'](() => {
          signal.throwIfAborted();
          const now = performance.now();
          const waitedMs = now - (host.waitsSince ?? now);
          host.waitsSince = null;
          host.heardAt = host.heardAt === null ? now : Math.min(now, Math.max(host.heardAt, awakeAt) + waitedMs);
          return hosts.reach(hostId);
        });
        let work = Promise.resolve();
        const stream = new AbortController();
        await connection.events(
          (event) => {
            pause = 500;
            if (event.type === 'hello') {
              host.isOpen = true;
              host.missed = 0;
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
            host.heardAt = performance.now();
          },
          leaseOf(host.shard),
        );
      } catch (error) {
        host.missed = host.isOpen ? 0 : host.missed + 1;
        host.isOpen = false;
        if (signal.aborted) return;
        log.warn({ hostId, error: error instanceof Error ? error.message : String(error) }, 'lost a host');
        await hosts.drop(hostId);
        if (host.said === 'connected') await say(hostId, host, 'degraded');
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  let heardOutAt: Moment | null = null;
  let listenedAt = momentNow();
  let awakeAt = listenedAt.steadyMs;
  /**
   * Says which hosts have fallen silent, whether their stream is broken or only nothing comes through it any more. It waits for no record: one that
   * somebody is at would hold up what is said of all others.
   */
  function listenForSilence(): void {
    const listeningAt = momentNow();
    const late = passedMs(listenedAt, listeningAt) > heldUpMs;
    listenedAt = listeningAt;
    const now = listeningAt.steadyMs;
    // A process that was held up itself, or slept, has not read yet what hosts have sent meanwhile, and may have lost their streams: it begins anew.
    if (late) {
      awakeAt = now;
      return;
    }
    for (const [hostId, host] of watched) {
      if (host.heardAt === null || host.waitsSince !== null) continue;
      const from = Math.max(host.heardAt, awakeAt);
      const silentMs = now - from;
      const isHeard = host.isOpen && (!host.beats || silentMs < silenceMs);
      // The records were away when it was said.
      if (isHeard && host.said !== 'connected' && host.toSay === 0) void say(hostId, host, 'connected');
      if (host.isOpen && !host.beats) continue;
      if (silentMs >= (patience.get(host.clusterId) ?? silenceMs)) lookFor(hostId, host, from);
      if (silentMs < silenceMs || host.said === 'disconnected' || host.toSay > 0) continue;
      void say(hostId, host, 'disconnected').then(() => {
        if (host.said !== 'disconnected') return;
        host.waitsSince = null;
        log.warn({ hostId, silentMs }, 'a host does not answer');
        void hosts.drop(hostId);
      });
    }
    heardOutAt = momentNow();
  }

  let looks = 0;
  /** Asks others about a host, and at once again while that may change what follows. What is not recorded yet is soon. */
  function lookFor(hostId: string, host: Watched, from: number): void {
    if (host.lookAt === null || performance.now() < host.lookAt || looks >= looksAtOnce) return;
    if (host.silence?.from !== from) host.silence = { from, since: new Date(Date.now() - (performance.now() - from)) };
    host.lookAt = null;
    looks += 1;
    void detector
      .look(hostId, host.silence.since)
      .catch((error: unknown) => {
        log.warn({ hostId, error: String(error) }, 'could not find out about a silent host');
        return false;
      })
      .then((again) => {
        looks -= 1;
        host.lookAt = performance.now() + (again || host.said !== 'disconnected' ? 0 : lookAgainMs);
        const isSilent = watched.get(hostId) === host && (host.heardAt ?? Infinity) <= from;
        if (again && isSilent && passedMs(listenedAt) <= heldUpMs) lookFor(hostId, host, from);
      });
  }

  let patience = new Map<string, number>();
  /** Shards of which all hosts were read since they came to this process. */
  const whole = new Set<number>();
  let turn = 0;
  let lookedAt: Moment | null = null;

  /** What was changed in the last minute; all hosts of shards that are new; and of one shard after the other, for whatever took longer than that. */
  async function look(): Promise<void> {
    const mine = new Set(shards());
    const lookingAt = momentNow();
    // What was changed before the last minute, and after it had looked, would be missed.
    if (lookedAt !== null && passedMs(lookedAt, lookingAt) > lookedMs) whole.clear();
    for (const shard of whole) if (!mine.has(shard)) whole.delete(shard);
    turn += 1;
    const read = [...mine].filter((shard, place) => !whole.has(shard) || place === turn % mine.size);
    const found = new Map<string, Pick<Watched, 'place' | 'clusterId' | 'wasAway' | 'mayBeOff'>>();
    const gone = new Set<string>();
    const rows = await watchedHosts(database.connections, { shards: read });
    // Asked after the others, so that of two that differ it is the newer one.
    const changed = await changedHosts(database.connections, { shards: [...mine] });
    for (const { id, address, sshPort, clusterId, connection, state, ...row } of [...rows, ...changed]) {
      if ('isWatched' in row && !row.isWatched) gone.add(id);
      else
        found.set(id, {
          place: `${address} ${sshPort}`,
          clusterId,
          wasAway: connection === 'disconnected',
          mayBeOff: state === 'maintenance',
        });
    }
    for (const id of gone) found.delete(id);
    patience = new Map(
      (await patienceOfClusters(database.connections)).map(({ id, seconds }) => [id, seconds * 1_000]),
    );
    const isRead = new Set(read);
    const left = [...watched].filter(
      ([id, { shard, place }]) =>
        !mine.has(shard) || gone.has(id) || (found.get(id)?.place ?? (isRead.has(shard) ? null : place)) !== place,
    );
    const fenced = new Set(
      (await fencedAmong(database.connections, { ids: left.map(([id]) => id) })).map(({ id }) => id),
    );
    for (const [id, { controller }] of left) {
      controller.abort();
      watched.delete(id);
      // Whoever goes on with it finds it at its new address; and nobody waits for an answer of one that was shut out.
      if (found.has(id) || fenced.has(id)) void hosts.drop(id);
    }
    for (const [id, { place, clusterId, wasAway, mayBeOff }] of found) {
      const known = watched.get(id);
      if (known) Object.assign(known, { clusterId, mayBeOff });
      if (known) continue;
      const host: Watched = {
        controller: new AbortController(),
        shard: shardOf(id),
        clusterId,
        place,
        mayBeOff,
        heardAt: null,
        silence: null,
        beats: false,
        isOpen: false,
        missed: wasAway ? missesOfAway : 0,
        wasAway,
        waitsSince: null,
        lookAt: 0,
        told: new Map(),
        hypervisorMissed: 0,
        clients: '',
        said: null,
        saying: Promise.resolve(),
        toSay: 0,
      };
      watched.set(id, host);
      void watch(id, host);
    }
    for (const shard of read) whole.add(shard);
    lookedAt = lookingAt;
  }

  /** What hosts say of themselves, where that is not what they said before. */
  async function noteOwn(what: SaidOfItself, said: Map<string, boolean>): Promise<void> {
    const changed = [...said].filter(([id, isWell]) => watched.get(id)?.told.get(what) !== isWell);
    const idsOf = (wanted: boolean): string[] =>
      changed.flatMap(([id, isWell]) => (isWell === wanted && watched.has(id) ? [id] : []));
    await detector.ofThemselves(what, { well: idsOf(true), ill: idsOf(false) });
    for (const [id, isWell] of changed) watched.get(id)?.told.set(what, isWell);
  }

  /** Of guests that were measured. An instance never changes its project. */
  let projects = new Map<string, string>();

  /** Side by side: one that is slow to answer holds up few others. */
  async function measure(): Promise<void> {
    const left = [...watched].flatMap(([id, { said }]) => (said === 'connected' ? [id] : []));
    const before = projects;
    projects = new Map();
    const storage = new Map<string, boolean>();
    const hypervisor = new Map<string, boolean>();
    /** Its network may be another one since it was connected. Who does not know its addresses can not shut it out. */
    async function noteItsClients(hostId: string, host: Watched, found: Client[]): Promise<void> {
      const clients = found.filter(({ addresses }) => addresses.length > 0);
      const told = JSON.stringify(clients);
      if (told === host.clients) return;
      for (const client of clients) await noteClients(database.connections, { hostId, ...client });
      host.clients = told;
    }
    async function measureOne(id: string): Promise<void> {
      const host = watched.get(id);
      if (!host) return;
      const measured = await (await hosts.connect(id)).call('host.metrics', {});
      const guests = measured.domains.map((domain) => domain.id);
      const unknown = guests.filter((guest) => !before.has(guest));
      const rows = unknown.length > 0 ? await projectsOf(database.connections, { ids: unknown }) : [];
      for (const row of rows) before.set(row.id, row.projectId);
      for (const guest of guests) {
        const project = before.get(guest);
        // One without a record is asked about again.
        if (project !== undefined) projects.set(guest, project);
      }
      recordMeasured(id, measured, projects);
      storage.set(id, (measured.heartbeatAgeSeconds ?? 0) < heartbeatSeconds);
      await noteItsClients(id, host, measured.storageClients ?? []);
      host.hypervisorMissed = measured.hypervisorAnswers === false ? host.hypervisorMissed + 1 : 0;
      hypervisor.set(id, host.hypervisorMissed < silentMeasures);
    }
    const begin = inLine(measuredAtOnce);
    await Promise.all(
      left.map((id) =>
        begin(() => measureOne(id)).catch((error: unknown) =>
          log.debug({ hostId: id, error: String(error) }, 'could not measure a host'),
        ),
      ),
    );
    forgetAllBut(new Set(storage.keys()));
    await noteOwn('storageUnreachable', storage);
    await noteOwn('hypervisorSilent', hypervisor);
  }

  async function repeat(work: () => Promise<void>, everyMs: number): Promise<void> {
    while (!stopped) {
      await work().catch((error: unknown) => log.warn({ error: String(error) }, 'could not look after the hosts'));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  void repeat(look, lookMs);
  void repeat(measure, measureMs);
  void repeat(repeatSaid, measureMs);
  void repeat(async () => listenForSilence(), listenMs);
  void repeat(tell, lookMs);
  void repeat(askAboutDoubted, askMs);
  void repeat(() => detector.zonesHeardAgain(), lookMs);
  return {
    stop() {
      stopped = true;
      for (const { controller } of watched.values()) controller.abort();
    },
  };
}
