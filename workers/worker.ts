/** What every worker process has: database, connections, activities under one interceptor, and an orderly end. */

import type { Context as ActivityContext, Info } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { type ActivityExecuteInput, DefaultLogger, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import { failureOf } from '../activities/failure.ts';
import { refuseLate } from '../activities/holder.ts';
import { activitiesFor } from '../activities/index.ts';
import { openNorthbound } from '../activities/network/northbound.ts';
import { ovsdbTls } from '../activities/network/ovsdbSocket.ts';
import type { OperationProblem, StepContext, StepPlace } from '../activities/step.ts';
import type { World } from '../activities/world.ts';
import { findIds } from '../api/query/find.ts';
import { type Database, openDatabase } from '../database/database.ts';
import { hostConnections } from '../database/hosts.ts';
import type { HostInStep } from '../host-agent/connection.ts';
import type { Lease, Stamp } from '../host-agent/stamp.ts';
import { instantAt } from '../model/forms.ts';
import { config } from '../runtime/config.ts';
import type { HostConnections } from '../runtime/hosts.ts';
import { type Log, log } from '../runtime/log.ts';
import { shrinkAtRest } from '../runtime/memory.ts';
import { metrics, serveMetrics } from '../runtime/metrics.ts';
import { openTemporal } from '../temporal/connection.ts';
import { ensureSchedule, ensureScheduleAbsent, standingOf } from '../temporal/schedules.ts';
import { beforeMessage, underFaults } from './faults.ts';
import { asAsker, asSpeaker, begin, speaking, untilNothingIsUnderWay } from './speaking.ts';
import { type StepEvents, stepEvents } from './step-events.ts';
import { connectWorkers } from './temporalConnection.ts';

export interface WorkerProcess {
  database: Database;
  world: World;
  log: Log;
  events: StepEvents;
  /** A worker on a queue, with all activities. On the queue of a shard, `lease` tells under which lease a step begins. */
  worker(
    options: { lease?: () => Lease } & Pick<
      WorkerOptions,
      | 'taskQueue'
      | 'workflowBundle'
      | 'maxConcurrentActivityTaskExecutions'
      | 'activityTaskPollerBehavior'
      | 'maxConcurrentWorkflowTaskExecutions'
    >,
  ): Promise<Worker>;
  close(): Promise<void>;
}

function problemIn(error: unknown): OperationProblem {
  if (error instanceof ApplicationFailure)
    return { code: error.type ?? 'INTERNAL', message: error.message, step: null };
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), step: null };
}

/** A fifth of the time after which Temporal gives a silent worker up; also how soon a step learns that it is cancelled. */
const heartbeatMs = 2_000;

/** An activity is named after its step; its workflow's id is the operation's. */
const contextOf = (
  { activityType, workflowExecution, workflowType, attempt, isLocal }: Info,
  place: StepPlace,
): StepContext => ({
  ...place,
  ...(isLocal ? {} : { attempt }),
  operationId: workflowExecution?.workflowId ?? '',
  type: workflowType ?? '',
  step: activityType.replace(/\.undo$/, ''),
  undo: activityType.endsWith('.undo'),
});

/**
 * The lease is the one under which the try begins, for as long as it takes: a worker that got its shard back after another had it must not
 * give what it began before the newer lease.
 */
function stampOf(place: StepPlace, { operationId }: StepContext, attempt: number, lease: () => Lease): Stamp {
  return { lease: lease(), step: { operationId, index: place.index, round: place.round ?? 1, attempt } };
}

/** A host for the try that runs right now; with `atHand`, for work that other hosts can do as well as that one. */
async function hostInStep(
  database: Database,
  hosts: HostConnections,
  hostId: string,
  atHand?: string,
): Promise<HostInStep> {
  const speaker = speaking.getStore();
  if (!speaker) throw new Error('only a step may speak to hosts');
  const connection = await hosts.connect(hostId);
  if (speaker.context.index < 0) return asAsker(connection);
  if (atHand !== undefined) await untilNothingIsUnderWay(database.connections, speaker, hostId !== atHand);
  const host = asSpeaker(database.connections, speaker, connection);
  if (!config.faultInjection) return host;
  const under = (message: string): Promise<void> => beforeMessage(database, speaker.context, message);
  return {
    call: (name, input, options) => under(name).then(() => host.call(name, input, options)),
    runTask: (name, taskId, input, options) => under(name).then(() => host.runTask(name, taskId, input, options)),
  };
}

/** One attempt of a step: faults, metrics, live events, and errors as codes. */
function interceptor(database: Database, events: StepEvents, lease?: () => Lease) {
  return (activity: ActivityContext) => ({
    inbound: {
      async execute(
        input: ActivityExecuteInput,
        next: (input: ActivityExecuteInput) => Promise<unknown>,
      ): Promise<unknown> {
        const [stepInput, place] = input.args as [unknown, StepPlace];
        const context = contextOf(activity.info, place);
        const { attempt } = activity.info;
        const end = metrics.stepDuration.startTimer({ step: context.step, direction: context.undo ? 'undo' : 'do' });
        if (attempt > 1) metrics.stepRetries.labels(context.step).inc();
        const startedAt = instantAt();
        const beat = activity.info.isLocal ? undefined : setInterval(() => activity.heartbeat(), heartbeatMs);
        events.tell(
          context,
          context.undo
            ? { state: 'undoing', attempts: attempt }
            : { state: 'running', attempts: attempt, startedAt, endedAt: null, error: null },
        );
        try {
          const speaker = await begin(database.connections, context, {
            stamp: lease ? stampOf(place, context, attempt, lease) : null,
            // What is no step of an operation may be done twice, at once too.
            mayHaveOlder: place.index >= 0 && !activity.info.isLocal && (attempt > 1 || (place.round ?? 1) > 1),
            sleep: (ms) => activity.sleep(ms),
          });
          const result = await speaking.run(speaker, () =>
            underFaults(database, context, stepInput, () => next({ ...input, args: [stepInput, context] })),
          );
          end({ outcome: 'done' });
          events.tell(context, { state: context.undo ? 'undone' : 'done', endedAt: instantAt() });
          return result;
        } catch (error) {
          const failure = failureOf(error);
          end({ outcome: 'failed' });
          events.tell(context, { error: { ...problemIn(failure), step: context.step } });
          throw failure;
        } finally {
          clearInterval(beat);
        }
      },
    },
  });
}

export async function startWorkerProcess(): Promise<WorkerProcess> {
  Runtime.install({
    logger: new DefaultLogger('WARN', ({ message, meta }) => {
      // A host worker runs no workflows on purpose, on each of its queues.
      if (message.startsWith('No workflows registered')) return;
      const { workflowId, activityType: step, error = '' } = meta ?? {};
      log.warn({ workflowId, step, error: String(error) }, message);
    }),
    shutdownSignals: [],
  });
  const database = openDatabase(config.databaseUrl, config.databaseConnections, { byIndex: true });
  const hosts = hostConnections(database);
  const tls = ovsdbTls([config.ovnNorthbound, config.ovnSouthbound]);
  const client = openTemporal();
  const world: World = {
    database,
    log,
    host: (hostId) => hostInStep(database, hosts, hostId),
    anyHost: (hostId, atHand) => hostInStep(database, hosts, hostId, atHand),
    northbound: openNorthbound(config.ovnNorthbound, tls, async () => {
      const speaker = speaking.getStore();
      if (speaker) await refuseLate(database.connections, speaker.context);
    }),
    southbound: { remotes: config.ovnSouthbound, tls },
    temporalSchedules: {
      ensure: (timetable, options) => ensureSchedule(client(), timetable, options),
      ensureAbsent: (id) => ensureScheduleAbsent(client(), id),
      standing: (id) => standingOf(client(), id),
    },
    find: (caller, kind, filter, projectId, most) =>
      findIds(database.connections, caller, kind, filter, { projectId, most }),
  };
  const events = stepEvents(database, log);
  const temporal = await connectWorkers();
  serveMetrics(config.metricsPort);
  shrinkAtRest();
  const activities = activitiesFor(world);
  return {
    database,
    world,
    log,
    events,
    worker: ({ lease, ...options }) =>
      temporal.worker((connection) =>
        Worker.create({
          connection,
          namespace: config.temporal.namespace,
          activities,
          shutdownGraceTime: '5 s',
          // Otherwise beats are held back for eight of the ten seconds: a busy worker would pass for a dead one.
          maxHeartbeatThrottleInterval: heartbeatMs,
          interceptors: { activity: [interceptor(database, events, lease)] },
          ...options,
        }),
      ),
    async close() {
      await events.flush();
      await hosts.closeAll();
      world.northbound.close();
      await temporal.close();
      await database.close();
    },
  };
}
