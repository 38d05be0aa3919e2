/** Schedules: what Temporal is told of them, how a run that is due begins, and what a run is about. */

import { type Caller, scopesOf } from '../../acceptance/caller.ts';
import { acceptAs, type OwnReason } from '../../acceptance/own.ts';
import { patched } from '../../acceptance/patch.ts';
import {
  checkSchedule,
  makesProducts,
  recurringOf,
  type ScheduleColumns,
  takesWindow,
} from '../../acceptance/platform/schedule.ts';
import { holderOf } from '../../acceptance/rights.ts';
import { type Database, insertAll, type Queryable, type Transaction, transaction } from '../../database/database.ts';
import { startOf } from '../../database/queue.ts';
import {
  activeSchedulesAfter,
  lockRun,
  longestAgo,
  productsOf,
  scheduleById,
  writeSchedule,
} from '../../database/schedules.ts';
import { settingOf } from '../../database/settings.ts';
import { from, type Values as Given, now, statement } from '../../database/statement.ts';
import { idOf } from '../../database/wellKnown.ts';
import { columnsOf } from '../../model/columns.ts';
import { instantAt } from '../../model/forms.ts';
import { kindOf } from '../../model/kinds.ts';
import { calendarAt, calendarsOf } from '../../model/platform/cron.ts';
import { type MaintenanceName, maintenance, maintenanceTimetable } from '../../model/platform/maintenance.ts';
import type { Piece, StartOperation } from '../../model/platform/operation.ts';
import { expired } from '../../model/platform/retention.ts';
import { type Standing, type Timetable, TimetableError } from '../../model/platform/timetable.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { conclude, lockOperation } from './operationRecord.ts';

interface ScheduleRef {
  scheduleId: string;
}

/** Of the Temporal Schedule. */
export const temporalIdOf = (scheduleId: string): string => `schedule-${scheduleId}`;

const kind = kindOf('schedule');
const atOnce = 200;
const nobody = '00000000-0000-0000-0000-000000000000';

async function scheduleOf(on: Queryable, id: string): Promise<(ScheduleColumns & { revision: number }) | null> {
  const [found] = await scheduleById(on, { id });
  return (found?.row as (ScheduleColumns & { revision: number }) | undefined) ?? null;
}

/** What Temporal is told of a schedule: when, and whose; never what. Of the platform's own the table of maintenance says it. */
function timetableOf(schedule: ScheduleColumns): Timetable {
  const { id, name, projectId, cron, at, timeZone, overlap, windowSeconds, enabled, lastRun } = schedule;
  if (schedule.managedBy) return { ...maintenanceTimetable(name as MaintenanceName), paused: !enabled };
  return {
    id: temporalIdOf(id),
    workflow: 'runSchedule',
    args: [{ scheduleId: id }],
    // It is shown as Markdown.
    title: `run schedule ${name}`.replace(/[`*_[\]<>]/g, ' ').slice(0, 190),
    projectId,
    ...(cron === null
      ? { calendars: [calendarAt(String(at))], timeZone: 'UTC' }
      : { calendars: calendarsOf(cron), timeZone }),
    ...(at !== null && (lastRun === null || Date.parse(lastRun) < Date.parse(at)) ? { at } : {}),
    overlap,
    catchupSeconds: windowSeconds,
    paused: !enabled,
  };
}

/** `nightly 2026-11-26 03:00`, in the time zone of the schedule. */
function nameOf({ name, timeZone }: ScheduleColumns, moment: Date): string {
  const local = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' }).format(moment);
  return `${name.slice(0, 110)} ${local}`;
}

/** A run that is refused before it has begun: an operation that has failed, where whoever looks for it finds it. */
async function recordRefused(
  database: Database,
  schedule: ScheduleColumns,
  runId: string,
  problem: Problem,
): Promise<void> {
  const operationId = idOf(`run/${runId}`);
  await transaction(database, async (tx) => {
    await lockRun(tx, { key: `run/${runId}` });
    const known = await askedBy(tx, { id: operationId });
    if (known.length > 0) return;
    await insertAll(tx, {
      operation: [
        {
          id: operationId,
          projectId: schedule.projectId,
          state: 'queued',
          createdAt: instantAt(),
          updatedAt: instantAt(),
          type: 'schedule.runNow',
          targetKind: 'schedule',
          targetId: schedule.id,
          actorUserId: schedule.runAsUserId,
          actorApiKeyId: schedule.runAsApiKeyId,
          input: { scheduleId: schedule.id },
          progress: 0,
          steps: [],
          requestId: 'schedule' satisfies OwnReason,
        },
      ],
    });
    await conclude(tx, await lockOperation(tx, operationId), {
      state: 'failed',
      steps: [],
      error: { ...problem.details, code: problem.code, message: problem.message, step: null },
      result: null,
    });
    await noteRun(tx, schedule.id, operationId);
  });
}

const runNoted = statement((p: Given<{ id: string; operationId: string }>) =>
  from
    .updateTable('schedule')
    .set((eb) => ({ lastRun: now, lastOperationId: p.operationId, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null),
);

const noteRun = (on: Queryable, scheduleId: string, operationId: string): Promise<unknown> =>
  runNoted(on, { id: scheduleId, operationId });

const nextNoted = statement((p: Given<{ id: string; nextRun: Date | null }>) =>
  from
    .updateTable('schedule')
    .set((eb) => ({ nextRun: p.nextRun, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null)
    .where('nextRun', 'is distinct from', p.nextRun),
);

const noteNext = (on: Queryable, scheduleId: string, standing: Standing | null): Promise<unknown> =>
  nextNoted(on, { id: scheduleId, nextRun: standing?.nextRun ? new Date(standing.nextRun) : null });

const noteEnabled = statement((p: Given<{ id: string; enabled: boolean }>) =>
  from
    .updateTable('schedule')
    .set((eb) => ({ enabled: p.enabled, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('currentOperationId', 'is', null),
);

const askedBy = statement((p: Given<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select(['actorUserId as runAsUserId', 'actorApiKeyId as runAsApiKeyId'])
    .where('id', '=', p.id),
);

async function mostTargets(on: Queryable): Promise<number> {
  const [setting] = await settingOf(on, { name: 'schedule.targetsPerRun' });
  return Number(setting?.value);
}

/** Columns that a change of a schedule writes. */
const written = new Set([
  'name',
  'description',
  'labels',
  'runAsUserId',
  'runAsApiKeyId',
  ...Object.entries(kind.fields).flatMap(([name, { set }]) => (set.startsWith('patch') ? [name] : [])),
]);

type Values = Record<string, unknown>;

const valuesOf = (row: object): Values => Object.fromEntries(Object.entries(row).filter(([name]) => written.has(name)));

async function write(tx: Transaction, scheduleId: string, values: Values): Promise<void> {
  const names = columnsOf(kind).flatMap(({ name }) => (name in values && written.has(name) ? [name] : []));
  await writeSchedule(tx, scheduleId, names, values);
}

export const schedules = ({ database, log, temporalSchedules, find }: World) => ({
  /** What a change makes of a schedule, now that it is held. */
  plan: step({
    system: 'record',
    async do(
      { scheduleId, patch, takesOver }: ScheduleRef & { patch: Values; takesOver: boolean },
      { operationId },
    ): Promise<{ before: Values; after: Values; was: Timetable; wanted: Timetable }> {
      const row = await scheduleOf(database.connections, scheduleId);
      if (!row) throw refuse('NOT_FOUND', `schedule ${scheduleId} is gone`);
      const after = {
        ...row,
        ...patched(kind, row as unknown as Values, patch),
        // Who has said it anew, the operation knows; its input is told to others, too.
        ...(takesOver ? await actorsOf(database, operationId) : {}),
      };
      if (!row.managedBy) checkSchedule(after);
      return { before: valuesOf(row), after: valuesOf(after), was: timetableOf(row), wanted: timetableOf(after) };
    },
  }),

  write: step({
    system: 'record',
    do: ({ scheduleId, after }: ScheduleRef & { before: Values; after: Values }, context) =>
      asHolder(database, context, (tx) => write(tx, scheduleId, after)),
    undoText: 'the values before',
    undo: ({ scheduleId, before }, context) => asHolder(database, context, (tx) => write(tx, scheduleId, before)),
  }),

  /** Temporal has the schedule as it is `wanted`; without that, as its record says. Its undo leaves what `was` there, or nothing. */
  publish: step({
    system: 'record',
    async do({ scheduleId, wanted }: ScheduleRef & { wanted: Timetable | null; was: Timetable | null }): Promise<void> {
      const row = wanted ? null : await scheduleOf(database.connections, scheduleId);
      if (!wanted && !row) throw refuse('NOT_FOUND', `schedule ${scheduleId} is gone`);
      try {
        await temporalSchedules.ensure(wanted ?? timetableOf(row as ScheduleColumns));
      } catch (error) {
        if (!(error instanceof TimetableError)) throw error;
        throw refuse('INVALID_ARGUMENT', `schedule ${scheduleId} can not be run at these times: ${error.message}`);
      }
    },
    undoText: 'as it was',
    async undo({ scheduleId, was }) {
      if (was) await temporalSchedules.ensure(was);
      else await temporalSchedules.ensureAbsent(temporalIdOf(scheduleId));
    },
  }),

  /** The next run, as Temporal tells it. */
  lookAhead: step({
    system: 'record',
    async do({ scheduleId }: ScheduleRef): Promise<void> {
      const row = await scheduleOf(database.connections, scheduleId);
      if (row) await noteNext(database.connections, scheduleId, await temporalSchedules.standing(timetableOf(row).id));
    },
  }),

  withdraw: step({
    system: 'record',
    do: ({ scheduleId }: ScheduleRef): Promise<void> => temporalSchedules.ensureAbsent(temporalIdOf(scheduleId)),
    undoText: 'publish it again',
    async undo({ scheduleId }) {
      const row = await scheduleOf(database.connections, scheduleId);
      if (row) await temporalSchedules.ensure(timetableOf(row));
    },
  }),

  /**
   * Brings a page of all schedules in line: one that Temporal has lost is made again; whether the platform's own are paused, Temporal knows, and
   * of all when they run next. Answers where the next page begins.
   */
  align: step({
    system: 'record',
    async do({ after }: { after: string | null }): Promise<string | null> {
      const rows = await activeSchedulesAfter(database.connections, { after: after ?? nobody, atOnce });
      const found = rows.map(({ row }) => row as unknown as ScheduleColumns);
      for (const row of found) {
        if (row.managedBy && !Object.hasOwn(maintenance, row.name)) continue;
        const timetable = timetableOf(row);
        let standing = await temporalSchedules.standing(timetable.id);
        if (!standing) {
          await temporalSchedules.ensure(timetable, { keepsPause: true });
          // It may have been deleted meanwhile.
          if (!(await scheduleOf(database.connections, row.id))) await temporalSchedules.ensureAbsent(timetable.id);
          standing = await temporalSchedules.standing(timetable.id);
        }
        await noteNext(database.connections, row.id, standing);
        if (row.managedBy && standing && standing.paused === row.enabled)
          await noteEnabled(database.connections, { id: row.id, enabled: !standing.paused });
      }
      return (rows.length === atOnce ? found.at(-1)?.id : undefined) ?? null;
    },
  }),

  /**
   * A run that is due. Answers the operation to run; `waits` where the run before it has not ended; neither where nothing is to be done: the
   * schedule is gone, or paused, or it is too late. A run that its person may not begin any more is an operation that has failed.
   */
  begin: step({
    system: 'record',
    async do({
      scheduleId,
      runId,
      dueAt,
    }: ScheduleRef & { runId: string; dueAt: string }): Promise<{ start: StartOperation | null; waits: boolean }> {
      const nothing = { start: null, waits: false };
      const row = await scheduleOf(database.connections, scheduleId);
      const skip = (why: string): typeof nothing => {
        metrics.scheduledRuns.labels('skipped').inc();
        log.info({ scheduleId, runId, dueAt }, `a run of a schedule is left out: ${why}`);
        return nothing;
      };
      if (!row) {
        await temporalSchedules.ensureAbsent(temporalIdOf(scheduleId));
        return skip('there is no such schedule any more');
      }
      // Its time may come before all that makes it is done.
      if (row.state === 'creating') return { start: null, waits: true };
      if (row.state !== 'active') return skip(`the schedule is ${row.state}`);
      const standing = await temporalSchedules.standing(temporalIdOf(scheduleId));
      await noteNext(database.connections, scheduleId, standing);
      if (!row.enabled) return skip('the schedule is paused');
      if (Date.now() - Date.parse(dueAt) > row.windowSeconds * 1000) return skip('its window is over');
      try {
        const caller = await holderOf(database.connections, String(row.runAsApiKeyId));
        if (!caller) throw new Problem('FORBIDDEN', 'the API key that this runs as can not be used any more');
        const outcome = await acceptAs(
          database,
          caller,
          { kind, verb: 'runNow', targetId: scheduleId, body: {} },
          { requestId: 'schedule' satisfies OwnReason, idempotencyKey: runId, found: { dueAt } },
        );
        metrics.scheduledRuns.labels('begun').inc();
        return { start: await startOf(database, (JSON.parse(outcome.body) as { id: string }).id), waits: false };
      } catch (error) {
        if (!(error instanceof Problem) || error.status >= 500) throw error;
        if (error.code === 'RESOURCE_BUSY' && row.overlap === 'queue') return { start: null, waits: true };
        const isThere = (await scheduleOf(database.connections, scheduleId)) !== null;
        if (!isThere || error.code === 'RESOURCE_BUSY' || error.code === 'INVALID_STATE') return skip(error.message);
        metrics.scheduledRuns.labels('refused').inc();
        // What it may not see any more is not found by whom it runs as; those who look for the run do see it.
        const refused =
          error.code === 'NOT_FOUND'
            ? new Problem('FORBIDDEN', `who schedule ${row.name} runs as may not even see it any more`)
            : error;
        await recordRefused(database, row, runId, refused);
        return nothing;
      }
    },
  }),

  /** What this run is about: its targets now, with the rights that are left of whoever it runs as. */
  expand: step({
    system: 'record',
    async do(
      { scheduleId, dueAt }: ScheduleRef & { dueAt?: string },
      { operationId },
    ): Promise<{
      pieces: Piece[];
      maxParallel: number;
      retains: boolean;
      notAfter: string | null;
      /** What is begun is told of the window, and begins nothing in it that would not be done in time. */
      endByThemselves?: boolean;
    }> {
      const row = await scheduleOf(database.connections, scheduleId);
      if (!row) throw refuse('NOT_FOUND', `schedule ${scheduleId} is gone`);
      await noteRun(database.connections, scheduleId, operationId);
      if (dueAt && !row.enabled) return { pieces: [], maxParallel: 1, retains: false, notAfter: null };
      const caller = await actorOf(database, operationId);
      const recurring = recurringOf(row.action);
      if (!scopesOf(caller, recurring.permission).anywhere)
        throw refuse(
          'FORBIDDEN',
          `who schedule ${row.name} runs as has no permission ${recurring.permission} any more; who has it may change the schedule, and it runs as that one`,
        );
      const most = await mostTargets(database.connections);
      const ids =
        row.targets.ids ?? (await find(caller, recurring.target, row.targets.filter ?? '', row.projectId, most + 1));
      if (ids.length > most)
        throw refuse('INVALID_ARGUMENT', `the targets are more than ${most}, which is the most in one run`);
      const moment = dueAt ? new Date(dueAt) : new Date();
      // A run that is asked for by hand has a window of its own, from now on.
      const notAfter = row.endsWithWindow ? instantAt(new Date(moment.getTime() + row.windowSeconds * 1000)) : null;
      const endByThemselves = notAfter !== null && takesWindow(recurring);
      const inWindow = endByThemselves ? { notAfter, goesOn: true } : {};
      // Where there is not time for all, those that have waited longest come first.
      const inTurn = endByThemselves
        ? (await longestAgo(database.connections, { type: row.action, ids })).map(({ id }) => id)
        : ids;
      const pieces = inTurn.map((id): Piece => {
        if (recurring.field === null)
          return { about: id, request: { type: row.action, targetId: id, input: { ...row.input, ...inWindow } } };
        const input = { name: nameOf(row, moment), ...row.input, [recurring.field]: id };
        return { about: id, request: { type: row.action, targetId: null, input } };
      });
      return { pieces, maxParallel: row.maxParallel, retains: row.retention !== null, notAfter, endByThemselves };
    },
  }),

  /** The schedule's own products that its retention does not keep. Of a target of which this run made none, all stay. */
  expire: step({
    system: 'record',
    async do({ scheduleId, failed }: ScheduleRef & { failed: string[] }): Promise<Piece[]> {
      const row = await scheduleOf(database.connections, scheduleId);
      const { retention } = row ?? {};
      if (!row || !retention) return [];
      const recurring = recurringOf(row.action);
      const { kind: made, field } = recurring;
      if (!makesProducts(recurring) || field === null) return [];
      const from = made.actions.delete?.from ?? [];
      const products =
        (await productsOf(made.name)?.(database.connections, { scheduleId, states: from, failed })) ?? [];
      const now = new Date();
      return [...new Set(products.map(({ about }) => about))].sort().flatMap((about) =>
        expired(
          products.filter((product) => product.about === about),
          retention,
          row.timeZone,
          now,
        ).map((targetId) => ({ about: targetId, request: { type: `${made.name}.delete`, targetId, input: {} } })),
      );
    },
  }),
});

/** In whose name the operation was asked for, as the columns of a schedule say it. */
async function actorsOf(
  database: Database,
  operationId: string,
): Promise<{ runAsUserId: string | null; runAsApiKeyId: string | null }> {
  const [actors] = await askedBy(database.connections, { id: operationId });
  return actors ?? { runAsUserId: null, runAsApiKeyId: null };
}

/** In whose name the operation runs, with what is left of the rights. */
async function actorOf(database: Database, operationId: string): Promise<Caller> {
  const { runAsApiKeyId } = await actorsOf(database, operationId);
  const caller = runAsApiKeyId && (await holderOf(database.connections, runAsApiKeyId));
  if (!caller) throw refuse('FORBIDDEN', 'the API key that this runs as can not be used any more');
  return caller;
}
