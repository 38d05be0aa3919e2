/** What a schedule may be, and when a run of it may begin. */
import type { Transaction } from '../../database/database.ts';
import { settingOf as setting } from '../../database/settings.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { filled } from '../../model/actions.ts';
import type { Kind } from '../../model/kind.ts';
import { actionNamed, kindOf } from '../../model/kinds.ts';
import { CronError, calendarsOf, isTimeZone, leastGapSeconds } from '../../model/platform/cron.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Caller, isOperator, scopesOf } from '../caller.ts';
import { type Accepting, type Hooks, tell } from '../change.ts';
import { refuseOperatorOnly } from '../operatorOnly.ts';
import { patched } from '../patch.ts';
import { checkAction, checkCreate, checkPatch } from '../validate.ts';
import { invalid } from '../violation.ts';
import { projectsOf, refuseSecrets } from './operation.ts';

/** What is run again and again. */
export interface Recurring {
  kind: Kind;
  verb: string;
  /** Of what its targets are. */
  target: Kind;
  /** Of a create: the field that names its target. */
  field: string | null;
  permission: string;
}

const otherwise = 'must be an action on one resource, or the create of what belongs to one, such as snapshot.create';

/** @throws Problem INVALID_ARGUMENT */
export function recurringOf(action: unknown): Recurring {
  const found = actionNamed(String(action));
  // A schedule that changes schedules could not be told from who made it.
  if (!found || found.action.on === 'collection' || ['operation', 'schedule'].includes(found.kind.name))
    throw invalid('action', otherwise);
  const { kind, verb } = found;
  const permission = `${kind.name}.${verb === 'cascade' ? 'delete' : verb}`;
  if (verb !== 'create') return { kind, verb, target: kind, field: null, permission };
  const ref = kind.livesWith ? kind.fields[kind.livesWith]?.ref : undefined;
  if (!kind.livesWith || !ref) throw invalid('action', otherwise);
  return { kind, verb, target: kindOf(ref), field: kind.livesWith, permission };
}

/** What an action takes that has its targets one by one, and can leave some for the next run. */
export const takesWindow = ({ kind, verb }: Recurring): boolean =>
  Object.hasOwn(kind.actions[verb]?.input?.properties ?? {}, 'notAfter');

/** Whether what the action makes tells which schedule made it, and can be deleted. */
export const makesProducts = ({ kind, verb }: Recurring): boolean =>
  verb === 'create' && kind.fields.scheduleId !== undefined && kind.actions.delete !== undefined;

/** A schedule as its columns say. */
export interface ScheduleColumns {
  id: string;
  name: string;
  projectId: string | null;
  state: string;
  managedBy: unknown;
  cron: string | null;
  timeZone: string;
  at: string | null;
  action: string;
  input: Record<string, unknown>;
  targets: { ids?: string[]; filter?: string };
  retention: Record<string, number> | null;
  overlap: 'skip' | 'queue';
  windowSeconds: number;
  endsWithWindow: boolean;
  maxParallel: number;
  enabled: boolean;
  runAsUserId: string | null;
  runAsApiKeyId: string | null;
  lastRun: string | null;
}

const nobody = '00000000-0000-0000-0000-000000000000';

/** No calendar of Temporal goes further. */
const lastYear = 2100;

function checkTimes({ cron, at, timeZone }: ScheduleColumns): void {
  if ((cron === null) === (at === null))
    throw invalid(cron === null ? 'cron' : 'at', 'or the other is needed, and not both: cron, or at');
  if (!isTimeZone(timeZone))
    throw invalid('timeZone', 'names no time zone; they are called, and spelled, as in Europe/Berlin or UTC');
  if (at !== null && Date.parse(at) >= Date.UTC(lastYear + 1, 0))
    throw invalid('at', `must be in the year ${lastYear} at the latest`);
  if (cron === null) return;
  try {
    calendarsOf(cron);
  } catch (error) {
    if (error instanceof CronError) throw invalid('cron', error.message);
    throw error;
  }
}

/** The action's own schema, asked before anything runs. */
function checkInput(recurring: Recurring, { input }: ScheduleColumns): void {
  const { kind, verb, field } = recurring;
  refuseSecrets(kind, input);
  const given = structuredClone(input);
  try {
    if (verb === 'create') {
      const own = [field ?? '', 'requestedId', 'projectId'].find((name) => Object.hasOwn(given, name));
      if (own) throw invalid(own, 'is said by each run');
      checkCreate(kind, { name: 'product', ...given, [field ?? '']: nobody });
    } else if (verb === 'update') checkPatch(kind, given);
    else checkAction(kind, verb, given);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const { violations = [], ...details } = error.details;
    throw new Problem(error.code, `input: ${error.message}`, {
      ...details,
      violations: violations.map((one) => ({ ...one, field: `input.${one.field}` })),
    });
  }
}

/** A window in which nothing would ever begin. */
function checkWindow(recurring: Recurring, { endsWithWindow, windowSeconds, input }: ScheduleColumns): void {
  if (!endsWithWindow || !takesWindow(recurring)) return;
  const own = ['notAfter', 'goesOn'].find((name) => Object.hasOwn(input, name));
  if (own) throw invalid(`input.${own}`, 'is said by each run, where it ends with its window');
  const { secondsPerHost } = filled(recurring.kind.actions[recurring.verb] ?? { summary: '', mode: 'sync' }, input);
  if (Number(secondsPerHost) >= windowSeconds)
    throw invalid(
      'windowSeconds',
      `is no more than the ${String(secondsPerHost)} s that a host is taken to need, so none would ever be begun: make it longer, or say input.secondsPerHost`,
    );
}

/** An end that is over before a run begins: then nothing would ever be done. */
function refuseFixedEnd(recurring: Recurring, { cron, at, input }: ScheduleColumns): void {
  if (!takesWindow(recurring) || input.notAfter == null) return;
  if (cron !== null)
    throw invalid(
      'input.notAfter',
      'is one moment, and this runs again and again: let it end with its window (endsWithWindow)',
    );
  if (!(Date.parse(String(input.notAfter)) > Date.parse(String(at))))
    throw invalid('input.notAfter', 'must be later than at');
}

/** What can be told from the columns alone. @throws Problem INVALID_ARGUMENT */
export function checkSchedule(schedule: ScheduleColumns): Recurring {
  checkTimes(schedule);
  const recurring = recurringOf(schedule.action);
  const { ids, filter } = schedule.targets;
  if ((ids === undefined) === (filter === undefined)) throw invalid('targets', 'has ids or a filter, one of them');
  if (schedule.projectId !== null && recurring.target.scope !== 'project')
    throw invalid(
      'action',
      `is about ${recurring.target.plural.replaceAll('-', ' ')}, which lie in no project: so must the schedule (projectId null), which is for operators`,
    );
  checkInput(recurring, schedule);
  checkWindow(recurring, schedule);
  if (schedule.retention && !makesProducts(recurring))
    throw invalid(
      'retention',
      `is for what a schedule makes, such as by snapshot.create; ${schedule.action} makes nothing`,
    );
  return recurring;
}

const settingOf = async (tx: Transaction, name: string): Promise<number> => {
  const [found] = await setting(tx, { name });
  return Number(found?.value);
};

/** What the installation, and the caller's rights, say beside. */
async function refuse(tx: Transaction, caller: Caller, recurring: Recurring, schedule: ScheduleColumns): Promise<void> {
  const { cron, projectId, targets, input } = schedule;
  refuseFixedEnd(recurring, schedule);
  if (cron !== null && projectId !== null) {
    const least = await settingOf(tx, 'schedule.leastIntervalSeconds');
    const gap = leastGapSeconds(cron);
    if (gap < least) throw invalid('cron', `has runs ${gap} s after each other; ${least} s are the least here`);
  }
  if (!scopesOf(caller, recurring.permission).anywhere)
    throw new Problem('FORBIDDEN', `you need the permission ${recurring.permission}, which each run needs`);
  const { kind, verb } = recurring;
  const action = kind.actions[verb];
  if (action) refuseOperatorOnly({ kind, verb, caller }, action, input);
  const { ids } = targets;
  if (!ids) return;
  const most = await settingOf(tx, 'schedule.targetsPerRun');
  if (ids.length > most) throw invalid('targets.ids', `are ${ids.length}; ${most} are the most in one run`);
  const projects = await projectsOf(tx, caller, recurring.target, ids);
  if (projectId !== null && [...projects].some((id) => id !== projectId))
    throw invalid('targets.ids', 'must all lie in the project of the schedule');
}

/** What is run, or when: whoever says that anew, in their name it runs from then on. */
const substance: readonly (keyof ScheduleColumns)[] = [
  'cron',
  'timeZone',
  'at',
  'input',
  'targets',
  'retention',
  'overlap',
  'windowSeconds',
  'endsWithWindow',
  'maxParallel',
];

const columns = (row: Accepting['row']): ScheduleColumns => row as unknown as ScheduleColumns;

const locked = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('schedule')
    .select(['state', 'enabled'])
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null)
    .forUpdate(),
);

const running = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select('id')
    .where('targetId', '=', p.id)
    .where('type', '=', 'schedule.runNow')
    .where('endedAt', 'is', null)
    .limit(1),
);

export const scheduleHooks: Hooks = {
  'schedule.create': {
    async accept({ tx, caller, row }) {
      Object.assign(row, { runAsUserId: caller.userId, runAsApiKeyId: caller.apiKeyId });
      await refuse(tx, caller, checkSchedule(columns(row)), columns(row));
    },
  },
  'schedule.update': {
    async accept(accepting) {
      const { tx, caller, kind, row, input } = accepting;
      if (row.managedBy) {
        const other = Object.keys(input).find((name) => name !== 'enabled');
        if (other)
          throw new Problem('MANAGED', `schedule ${row.id} is the platform's own: it can be paused, and no more`);
        if (!isOperator(caller, 'schedule.update')) throw new Problem('FORBIDDEN', 'it is for operators to pause');
      }
      const takesOver = !row.managedBy && substance.some((name) => Object.hasOwn(input, name));
      if (takesOver) {
        const next = { ...columns(row), ...patched(kind, row, input) };
        await refuse(tx, caller, checkSchedule(next), next);
      }
      // What it makes of the schedule is told when its turn has come: others may change it before.
      tell(accepting, 'schedule.update', { patch: input, takesOver });
    },
  },
  'schedule.runNow': {
    async accept({ tx, row, workflowInput }) {
      // One at a time says it for the others, too.
      const [now] = await locked(tx, { id: row.id });
      if (now?.state !== 'active')
        throw new Problem('INVALID_STATE', `schedule ${row.id} is ${now?.state ?? 'gone'}; a run needs active`, {
          fits: ['active'],
        });
      if (workflowInput.dueAt !== undefined && !now.enabled)
        throw new Problem('INVALID_STATE', `schedule ${row.id} is paused`);
      const [other] = await running(tx, { id: row.id });
      if (other)
        throw new Problem('RESOURCE_BUSY', `schedule ${row.id} runs already, as operation ${other.id}`, {
          resource: { kind: 'operation', id: other.id },
          retryAfterSeconds: 5,
        });
    },
  },
};
