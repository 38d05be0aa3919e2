/** Watches the hosts of the leased shards: whether they answer, what their guests do by themselves, what they use. */
import { acceptChange } from '../acceptance/accept.ts';
import { systemCaller } from '../acceptance/caller.ts';
import { run } from '../database/database.ts';
import type { HostEvent, HostMetrics } from '../host-agent/protocol.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { shardOf } from '../model/shards.ts';
import { hostConnections } from '../runtime/hosts.ts';
import { metrics } from '../runtime/metrics.ts';
import { Problem } from '../runtime/problem.ts';
import type { WorkerProcess } from './worker.ts';

const lookMs = 2_000;
const measureMs = 15_000;

export interface Observer {
  stop(): void;
}

interface Watched {
  controller: AbortController;
}

export function observeHosts(processOf: WorkerProcess, shards: () => number[]): Observer {
  const { database, log } = processOf;
  const hosts = hostConnections(database);
  const watched = new Map<string, Watched>();
  let stopped = false;

  const say = (hostId: string, connection: 'connected' | 'disconnected'): Promise<unknown> =>
    run(
      database.pool,
      `UPDATE "host" SET connection = $2, "lastSeenAt" = CASE WHEN $2 = 'connected' THEN now() ELSE "lastSeenAt" END, revision = revision + CASE WHEN connection = $2 THEN 0 ELSE 1 END WHERE id = $1`,
      [hostId, connection],
    ).catch((error: unknown) => log.warn({ hostId, error: String(error) }, 'could not record the state of a host'));

  /** A guest that stopped by itself is stopped in the records too, by the same operation that a person would ask for. */
  async function settle(hostId: string, instanceId: string, reason: string): Promise<void> {
    const [instance] = await run<{ id: string }>(
      database.pool,
      `UPDATE "instance" SET "stateReason" = $3 WHERE id = $1 AND "hostId" = $2 AND state = 'running' AND "currentOperationId" IS NULL AND "deletedAt" IS NULL RETURNING id`,
      [instanceId, hostId, reason],
    );
    if (!instance) return;
    try {
      await acceptChange(database, {
        kind: kinds.instance as unknown as Kind,
        verb: 'stop',
        targetId: instanceId,
        body: { mode: 'force' },
        caller: systemCaller(),
        requestId: `observer-${hostId}`,
        sourceAddress: 'system',
        dryRun: false,
        idempotencyKey: null,
        onBusy: 'fail',
        ifMatch: null,
        undispatched: true,
      });
      log.info({ hostId, instanceId, reason }, 'a guest stopped by itself');
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }

  async function handle(hostId: string, event: HostEvent): Promise<void> {
    if (event.type === 'hello') {
      for (const domain of event.domains ?? [])
        if (domain.state === 'off' || domain.state === 'crashed')
          await settle(hostId, domain.id, domain.state === 'crashed' ? 'crashed' : domain.reason);
    } else if (event.domainId && (event.type === 'domain.stopped' || event.type === 'domain.crashed')) {
      if (event.reason !== 'migrated')
        await settle(hostId, event.domainId, event.type === 'domain.crashed' ? 'crashed' : 'guestPowerOff');
    }
  }

  async function watch(hostId: string, signal: AbortSignal): Promise<void> {
    for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
      try {
        const connection = await hosts.connect(hostId);
        let work = Promise.resolve();
        await connection.events((event) => {
          pause = 500;
          if (event.type === 'hello') {
            metrics.hostUp.labels(hostId).set(1);
            void say(hostId, 'connected');
          }
          work = work
            .then(() => handle(hostId, event))
            .catch((error: unknown) =>
              log.warn({ hostId, error: String(error) }, 'could not follow an event of a host'),
            );
        }, signal);
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ hostId, error: error instanceof Error ? error.message : String(error) }, 'lost a host');
        metrics.hostUp.labels(hostId).set(0);
        await hosts.drop(hostId);
        await say(hostId, 'disconnected');
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  async function look(): Promise<void> {
    const mine = new Set(shards());
    const rows = await run<{ id: string }>(
      database.pool,
      `SELECT id FROM "host" WHERE state IN ('active', 'connecting', 'maintenance') AND "deletedAt" IS NULL`,
    );
    const wanted = new Set(rows.map(({ id }) => id).filter((id) => mine.has(shardOf(id))));
    for (const [id, { controller }] of watched) {
      if (wanted.has(id)) continue;
      controller.abort();
      watched.delete(id);
    }
    for (const id of wanted) {
      if (watched.has(id)) continue;
      const controller = new AbortController();
      watched.set(id, { controller });
      void watch(id, controller.signal);
    }
  }

  function record(hostId: string, measured: HostMetrics, projects: Map<string, string>): void {
    metrics.hostCpu.labels(hostId).set(measured.cpuSeconds);
    metrics.hostMemoryAvailable.labels(hostId).set(measured.memoryAvailableBytes);
    metrics.hostMemoryTotal.labels(hostId).set(measured.memoryTotalBytes);
    metrics.hostReceived.labels(hostId).set(measured.networkReceivedBytes);
    metrics.hostSent.labels(hostId).set(measured.networkSentBytes);
    for (const domain of measured.domains) {
      const labels = [domain.id, projects.get(domain.id) ?? '', hostId] as const;
      metrics.instanceCpu.labels(...labels).set(domain.cpuSeconds);
      metrics.instanceMemory.labels(...labels).set(domain.memoryBytes);
      metrics.instanceRead.labels(...labels).set(domain.readBytes);
      metrics.instanceWritten.labels(...labels).set(domain.writtenBytes);
      metrics.instanceReceived.labels(...labels).set(domain.receivedBytes);
      metrics.instanceSent.labels(...labels).set(domain.sentBytes);
    }
  }

  async function measure(): Promise<void> {
    const ids = [...watched.keys()];
    const rows = await run<{ id: string; projectId: string }>(
      database.pool,
      `SELECT id, "projectId" FROM "instance" WHERE "hostId" = ANY($1::uuid[])`,
      [ids],
    );
    const projects = new Map(rows.map(({ id, projectId }) => [id, projectId]));
    for (const gauge of [
      metrics.instanceCpu,
      metrics.instanceMemory,
      metrics.instanceRead,
      metrics.instanceWritten,
      metrics.instanceReceived,
      metrics.instanceSent,
    ])
      gauge.reset();
    for (const id of ids) {
      try {
        record(id, await (await hosts.connect(id)).call('host.metrics', {}), projects);
      } catch (error) {
        log.debug({ hostId: id, error: String(error) }, 'could not measure a host');
      }
    }
  }

  async function repeat(work: () => Promise<void>, everyMs: number): Promise<void> {
    while (!stopped) {
      await work().catch((error: unknown) => log.warn({ error: String(error) }, 'could not look after the hosts'));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  void repeat(look, lookMs);
  void repeat(measure, measureMs);
  return {
    stop() {
      stopped = true;
      for (const { controller } of watched.values()) controller.abort();
    },
  };
}
