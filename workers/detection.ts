/**
 * Finds hosts that have failed. The process that carries a host misses it first; then it asks others, records what follows, and when all miss the host
 * for the second time its failover begins. The records decide: what a process says that does not carry the host any more changes nothing.
 */
import { systemCaller } from '../acceptance/caller.ts';
import { acceptAs, type OwnReason } from '../acceptance/own.ts';
import { askWitnesses } from '../activities/platform/witnesses.ts';
import { insertAll, type Queryable, transaction } from '../database/database.ts';
import {
  failingAtOnce,
  noteHealth,
  noteWell,
  type ownFindings,
  type SilentHost,
  silenceFindings,
  silentHost,
  zoneHeard,
  zonesSaidSilent,
} from '../database/detection.ts';
import { eventRow } from '../database/events.ts';
import { type Sighting, see, seenNoMore } from '../database/findings.ts';
import { kindOf } from '../model/kinds.ts';
import { shardOf } from '../model/shards.ts';
import type { HostConnections } from '../runtime/hosts.ts';
import { Problem } from '../runtime/problem.ts';
import { decide, type Verdict } from './verdict.ts';
import type { WorkerProcess } from './worker.ts';

const host = kindOf('host');
const ofHost = silenceFindings;
const ofZone = 'zoneSilent';

/** What a host that answers may say of itself. */
const ofItself = {
  storageUnreachable: {
    system: 'storage',
    expected: 'it leaves its heartbeat in all storage that it shares with others',
    actual:
      'It answers, and can not write to some of the storage that it shares with other hosts: guests there may hang. Nothing is done by itself. Look at its storage network; to bring its guests elsewhere: belay hosts enter-maintenance <host>.',
  },
  hypervisorSilent: {
    system: 'libvirt',
    expected: 'its libvirt says what its guests use',
    actual:
      'It answers, and its libvirt does not: its guests run on, and nothing can be done to them. A guest whose storage hangs may hold libvirt up; otherwise look at libvirtd on the host.',
  },
} as const satisfies Record<(typeof ownFindings)[number], unknown>;
export type SaidOfItself = keyof typeof ofItself;

const severities = { well: 'info', unreachable: 'warning', suspect: 'warning', down: 'critical' } as const;

export interface Detection {
  /** Finds out why nothing is heard of a host. Answers whether it is worth asking again at once. */
  look(hostId: string, silentSince: Date): Promise<boolean>;
  /** Which hosts say of themselves that all is well with it, and which that it is not. */
  ofThemselves(what: SaidOfItself, hosts: { well: string[]; ill: string[] }): Promise<void>;
  /** It is heard again. */
  heard(hostId: string): Promise<void>;
  /** Of which zones most hosts are heard again. */
  zonesHeardAgain(): Promise<void>;
}

interface Zone {
  hosts: number;
  heard: number;
}

const isHeard = ({ hosts, heard }: Zone): boolean => 2 * heard >= hosts;

/** What is concluded is decided by the records as they are then; only to look at all, a count of a moment ago is as good. */
const countedMs = 1_000;

export function detection(
  { database, log }: Pick<WorkerProcess, 'database' | 'log'>,
  hosts: HostConnections,
  holder: string,
): Detection {
  const tellHealth = (tx: Queryable, health: keyof typeof severities, hostId: string, payload: unknown) =>
    insertAll(tx, {
      event: [
        eventRow({
          type: 'host.healthChanged',
          severity: severities[health],
          resourceKind: 'host',
          resourceId: hostId,
          projectId: null,
          payload,
        }),
      ],
    });

  const counts = new Map<string, { at: number; zone: Promise<Zone> }>();
  /** Of a zone with many silent hosts each would count all others. */
  function countOf(zoneId: string): Promise<Zone> {
    const last = counts.get(zoneId);
    if (last && performance.now() - last.at < countedMs) return last.zone;
    const zone = zoneHeard(database.connections, { zoneId }).then(([found]) => found ?? { hosts: 0, heard: 0 });
    counts.set(zoneId, { at: performance.now(), zone });
    return zone;
  }

  const findingOf = (hostId: string, silent: SilentHost, what: string, actual: string): Sighting => ({
    class: 'risk',
    severity: what === ofHost.left ? 'warning' : 'critical',
    what,
    resourceKind: what === ofZone ? 'zone' : 'host',
    resourceId: what === ofZone ? silent.zoneId : hostId,
    system: 'host',
    location: silent.zoneId,
    expected: what === ofZone ? 'most of its hosts are heard' : 'it answers the control plane',
    actual: actual.slice(0, 1024),
  });

  /**
   * Answers false when it does not hold: somebody else carries the host, or it is heard again. What is held back for a person is found with it: of a host
   * that is shut out meanwhile nothing is found any more.
   */
  async function note(
    hostId: string,
    silent: SilentHost,
    { health, reason, blames }: Verdict,
    { isHeld = false } = {},
  ): Promise<boolean> {
    return transaction(database, async (tx) => {
      const [row] = await noteHealth(tx, { hostId, health, reason, shard: shardOf(hostId), holder });
      if (!row) return false;
      const { changed, ...payload } = row;
      if (changed) await tellHealth(tx, health, hostId, payload);
      if (blames === 'zone') await see(tx, findingOf(hostId, silent, ofZone, reason));
      else await seenNoMore(tx, { resourceKind: 'zone', resourceIds: [silent.zoneId], what: [ofZone] });
      const isLeft = health === 'unreachable' && blames === 'host';
      if (isLeft) await see(tx, findingOf(hostId, silent, ofHost.left, reason));
      if (isHeld) await see(tx, findingOf(hostId, silent, ofHost.down, reason));
      const over = [...(isLeft ? [] : [ofHost.left]), ...(health === 'down' ? [] : [ofHost.down])];
      await seenNoMore(tx, { resourceKind: 'host', resourceIds: [hostId], what: over });
      return true;
    });
  }

  /**
   * Why a person has to decide, or null when the failover has begun. An operation that holds the host and could not go on without it gives way; behind one that can, the
   * failover is not put in line, because the host may answer by then.
   */
  async function beginFailover(hostId: string, silent: SilentHost, { reason }: Verdict): Promise<string | null> {
    if (!silent.failsOver)
      return 'Its cluster does not fail over by itself (ha.enabled), and a failover by hand would stop its instances. To have them started elsewhere: belay clusters update <cluster> --ha.enabled.';
    const [count] = await failingAtOnce(database.connections, { zoneId: silent.zoneId });
    if (count && count.failing > count.allowed)
      return `${count.failing} hosts of its zone fail at once, and ${count.allowed} may without a person (setting ha.maxFailedHostsPercent). Find out what they have in common; to start its instances elsewhere: belay hosts failover <host>.`;
    try {
      await acceptAs(
        database,
        systemCaller(),
        { kind: host, verb: 'failover', targetId: hostId, body: { reason } },
        {
          requestId: 'host-down' satisfies OwnReason,
          onBusy: 'fail',
          leftToDispatcher: true,
          conditions: [
            { field: 'health', is: 'down', code: 'PRECONDITION_FAILED', message: 'the host is not down any more' },
          ],
        },
      );
      return null;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return `Its failover was refused: ${error.message}. It is tried again.`;
    }
  }

  async function act(hostId: string, silent: SilentHost, verdict: Verdict): Promise<void> {
    const held = await beginFailover(hostId, silent, verdict);
    log.warn({ hostId, held }, held === null ? 'a host is down; its failover begins' : 'a host is down');
    // A failover that has begun may still fail: the finding goes when the host is shut out, or heard again.
    if (held === null) return;
    await note(hostId, silent, { ...verdict, reason: `${verdict.reason} ${held}` }, { isHeld: true });
  }

  return {
    async look(hostId, silentSince) {
      const [before] = await silentHost(database.connections, { hostId });
      if (!before) return false;
      const wasSuspect = before.health === 'suspect' || before.health === 'down';
      // Where most of a zone is silent nothing is concluded, so few need not be asked about many.
      const witnesses = isHeard(await countOf(before.zoneId))
        ? await askWitnesses(database, hosts, hostId, before)
        : ({ peers: 'unknown', storage: 'unknown', power: 'none' } as const);
      const [silent] = await silentHost(database.connections, { hostId });
      if (!silent) return false;
      const zone = await countOf(silent.zoneId);
      const verdict = decide({ silentSince, zone, witnesses, wasSuspect });
      const holds = await note(hostId, silent, verdict);
      log.info(
        { hostId, silentSince, ...witnesses, ...zone, health: verdict.health, holds },
        'looked for a silent host',
      );
      if (holds && verdict.health === 'down') await act(hostId, silent, verdict);
      return holds && verdict.health === 'suspect';
    },

    async ofThemselves(what, { well, ill }) {
      await seenNoMore(database.connections, { resourceKind: 'host', resourceIds: well, what: [what] });
      for (const hostId of ill)
        await see(database.connections, {
          class: 'risk',
          severity: 'error',
          what,
          resourceKind: 'host',
          resourceId: hostId,
          ...ofItself[what],
        });
    },

    async heard(hostId) {
      await transaction(database, async (tx) => {
        const [row] = await noteWell(tx, { hostId });
        if (!row) return;
        await tellHealth(tx, 'well', hostId, row);
        await seenNoMore(tx, { resourceKind: 'host', resourceIds: [hostId], what: Object.values(ofHost) });
      });
    },

    async zonesHeardAgain() {
      for (const { zoneId } of await zonesSaidSilent(database.connections)) {
        const [zone] = await zoneHeard(database.connections, { zoneId });
        if (zone && isHeard(zone))
          await seenNoMore(database.connections, { resourceKind: 'zone', resourceIds: [zoneId], what: [ofZone] });
      }
    },
  };
}
