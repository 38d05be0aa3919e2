/**
 * Finds hosts that have failed. The process that carries a host misses it first; then it asks others, records what follows, and when all miss the host
 * for the second time its failover begins. The records decide: what a process says that does not carry the host any more changes nothing.
 */
import { systemCaller } from '../acceptance/caller.ts';
import { acceptAs } from '../acceptance/own.ts';
import { insertAll, type Queryable, transaction } from '../database/database.ts';
import { failingAtOnce, noteHealth, noteWell, type SilentHost, silentHost, zoneHeard } from '../database/detection.ts';
import { eventRow } from '../database/events.ts';
import { type Sighting, see, seenNoMore } from '../database/findings.ts';
import { kindOf } from '../model/kinds.ts';
import { shardOf } from '../model/shards.ts';
import type { HostConnections } from '../runtime/hosts.ts';
import { Problem } from '../runtime/problem.ts';
import { decide, type Verdict } from './verdict.ts';
import { askWitnesses } from './witnesses.ts';
import type { WorkerProcess } from './worker.ts';

const host = kindOf('host');
const ofHost = { left: 'hostUnreachable', down: 'hostDown' } as const;
const ofZone = 'zoneSilent';
const ofStorage = 'storageUnreachable';

const severities = { well: 'info', unreachable: 'warning', suspect: 'warning', down: 'critical' } as const;

export interface Detection {
  /** Finds out why nothing is heard of a host. Answers whether it is worth asking again at once. */
  look(hostId: string, silentSince: Date): Promise<boolean>;
  /** Which hosts say that they write their heartbeats, and which that they can not. */
  storageOf(hosts: { reaching: string[]; cut: string[] }): Promise<void>;
  /** It is heard again. */
  heard(hostId: string): Promise<void>;
}

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

  /** Answers false when it does not hold: somebody else carries the host, or it is heard again. */
  async function note(hostId: string, silent: SilentHost, { health, reason, blames }: Verdict): Promise<boolean> {
    return transaction(database, async (tx) => {
      const [row] = await noteHealth(tx, { hostId, health, reason, shard: shardOf(hostId), holder });
      if (!row) return false;
      const { changed, ...payload } = row;
      if (changed) await tellHealth(tx, health, hostId, payload);
      if (blames === 'zone') await see(tx, findingOf(hostId, silent, ofZone, reason));
      else await seenNoMore(tx, { resourceKind: 'zone', resourceIds: [silent.zoneId], what: [ofZone] });
      const isLeft = health === 'unreachable' && blames === 'host';
      if (isLeft) await see(tx, findingOf(hostId, silent, ofHost.left, reason));
      const over = [...(isLeft ? [] : [ofHost.left]), ...(health === 'down' ? [] : [ofHost.down])];
      await seenNoMore(tx, { resourceKind: 'host', resourceIds: [hostId], what: over });
      return true;
    });
  }

  /** Why a person has to decide, or null when the failover has begun. */
  async function beginFailover(hostId: string, silent: SilentHost, { reason }: Verdict): Promise<string | null> {
    if (!silent.failsOver)
      return 'Its cluster does not fail over by itself (ha.enabled). To start its instances elsewhere: belay hosts failover <host>.';
    const [count] = await failingAtOnce(database.connections, { zoneId: silent.zoneId });
    if (count && count.failing > count.allowed)
      return `${count.failing} hosts of its zone fail at once, and ${count.allowed} may without a person (setting ha.maxFailedHostsPercent). Find out what they have in common; to start its instances elsewhere: belay hosts failover <host>.`;
    try {
      await acceptAs(
        database,
        systemCaller(),
        { kind: host, verb: 'failover', targetId: hostId, body: { reason } },
        {
          requestId: `detected-${hostId}`,
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
    if (held === null)
      return seenNoMore(database.connections, { resourceKind: 'host', resourceIds: [hostId], what: [ofHost.down] });
    const reason = `${verdict.reason} ${held}`;
    if (await note(hostId, silent, { ...verdict, reason }))
      await see(database.connections, findingOf(hostId, silent, ofHost.down, reason));
  }

  return {
    async look(hostId, silentSince) {
      const [before] = await silentHost(database.connections, { hostId });
      if (!before) return false;
      const wasSuspect = before.health === 'suspect' || before.health === 'down';
      const zoneOf = ({ hosts: all, heard }: SilentHost) => ({ hosts: all, heard });
      // Where most of a zone is silent nothing is concluded, so few need not be asked about many.
      const isHeard = 2 * before.heard >= before.hosts;
      const witnesses = isHeard
        ? await askWitnesses(database, hosts, hostId, before)
        : ({ peers: 'unknown', storage: 'unknown' } as const);
      const [silent] = await silentHost(database.connections, { hostId });
      if (!silent) return false;
      const verdict = decide({ silentSince, zone: zoneOf(silent), witnesses, wasSuspect });
      const holds = await note(hostId, silent, verdict);
      log.info(
        { hostId, silentSince, ...witnesses, ...zoneOf(silent), health: verdict.health, holds },
        'looked for a silent host',
      );
      if (holds && verdict.health === 'down') await act(hostId, silent, verdict);
      return holds && verdict.health === 'suspect';
    },

    async storageOf({ reaching, cut }) {
      await seenNoMore(database.connections, { resourceKind: 'host', resourceIds: reaching, what: [ofStorage] });
      for (const hostId of cut)
        await see(database.connections, {
          class: 'risk',
          severity: 'error',
          what: ofStorage,
          resourceKind: 'host',
          resourceId: hostId,
          system: 'storage',
          expected: 'it leaves its heartbeat in all storage that it shares with others',
          actual:
            'It answers, and can not write to some of the storage that it shares with other hosts: guests there may hang. Nothing is done by itself. Look at its storage network; to bring its guests elsewhere: belay hosts enter-maintenance <host>.',
        });
    },

    async heard(hostId) {
      await transaction(database, async (tx) => {
        const [row] = await noteWell(tx, { hostId });
        if (!row) return;
        await tellHealth(tx, 'well', hostId, row);
        await seenNoMore(tx, { resourceKind: 'host', resourceIds: [hostId], what: Object.values(ofHost) });
        const [zone] = await zoneHeard(tx, { zoneId: row.zoneId });
        if (zone && 2 * zone.heard >= zone.hosts)
          await seenNoMore(tx, { resourceKind: 'zone', resourceIds: [row.zoneId], what: [ofZone] });
      });
    },
  };
}
