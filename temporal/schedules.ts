/** Temporal Schedules: made, brought in line, taken away, and asked for their next run. Each of it may be done twice. */
import {
  type Client,
  DAYS_OF_WEEK,
  isGrpcServiceError,
  MONTHS,
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  type ScheduleOptions,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import { instantAt } from '../model/forms.ts';
import {
  maintenanceId,
  maintenanceNames,
  maintenancePrefix,
  maintenanceTimetable,
} from '../model/platform/maintenance.ts';
import { type Calendar, type Standing, type Timetable, TimetableError } from '../model/platform/timetable.ts';
import { belayProject } from './search-attributes.ts';

const overlaps = {
  skip: ScheduleOverlapPolicy.SKIP,
  queue: ScheduleOverlapPolicy.BUFFER_ALL,
} as const;

const calendarOf = ({ month, dayOfWeek, ...rest }: Calendar) => ({
  // Left out, hour and minute would mean zero.
  minute: '*' as const,
  hour: '*' as const,
  ...rest,
  ...(month ? { month: month.flatMap((number) => MONTHS[number - 1] ?? []) } : {}),
  ...(dayOfWeek ? { dayOfWeek: dayOfWeek.flatMap((number) => DAYS_OF_WEEK[number] ?? []) } : {}),
});

function optionsOf(timetable: Timetable): Omit<ScheduleOptions, 'scheduleId'> {
  const { id, workflow, args, title, projectId, everySeconds, calendars, timeZone, overlap, catchupSeconds } =
    timetable;
  return {
    spec: {
      ...(everySeconds ? { intervals: [{ every: everySeconds * 1000 }] } : {}),
      ...(calendars ? { calendars: calendars.map(calendarOf) } : {}),
      ...(timeZone ? { timezone: timeZone } : {}),
    },
    action: {
      type: 'startWorkflow',
      workflowType: workflow,
      workflowId: id,
      args,
      taskQueue: 'control',
      staticSummary: title,
      ...(projectId ? { typedSearchAttributes: [{ key: belayProject, value: projectId }] } : {}),
    },
    policies: { overlap: overlaps[overlap], catchupWindow: catchupSeconds * 1000 },
    ...(projectId ? { typedSearchAttributes: [{ key: belayProject, value: projectId }] } : {}),
  };
}

/** The client throws a TypeError of its own for a time zone or a calendar that the server does not know, and hands on all else. */
function refused(error: unknown): unknown {
  if (error instanceof TypeError) return new TimetableError(error.message, { cause: error });
  const { cause } = error as Error;
  return isGrpcServiceError(cause) && cause.code === invalidArgument
    ? new TimetableError(cause.details, { cause: error })
    : error;
}

/** The status of gRPC. */
const invalidArgument = 3;

/** Its only moment is over, and not so long that it were too late: Temporal begins nothing for a moment before it knew of it. */
const isLate = ({ at, paused, catchupSeconds }: Timetable): boolean => {
  const late = at === undefined ? -1 : Date.now() - Date.parse(at);
  return !paused && late >= 0 && late < catchupSeconds * 1000;
};

/**
 * Makes the schedule, or brings the one that is there in line. With `keepsPause` one that is there stays paused, or not, as it is: whoever
 * paused it in Temporal's page has meant it.
 *
 * @throws TimetableError
 */
export async function ensureSchedule(
  client: Client,
  timetable: Timetable,
  { keepsPause = false }: { keepsPause?: boolean } = {},
): Promise<void> {
  const { id, paused } = timetable;
  const options = optionsOf(timetable);
  try {
    await client.schedule.create({
      ...options,
      scheduleId: id,
      state: { paused, triggerImmediately: isLate(timetable) },
    });
    return;
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw refused(error);
  }
  const handle = client.schedule.getHandle(id);
  await handle
    .update((present) => ({
      ...options,
      state: keepsPause ? present.state : { ...present.state, paused },
    }))
    .catch((error: unknown) => {
      throw refused(error);
    });
  if (isLate(timetable)) await handle.trigger();
}

export async function ensureScheduleAbsent(client: Client, id: string): Promise<void> {
  try {
    await client.schedule.getHandle(id).delete();
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
  }
}

/** Null where Temporal has no such schedule. */
export async function standingOf(client: Client, id: string): Promise<Standing | null> {
  try {
    const { state, info } = await client.schedule.getHandle(id).describe();
    const [next] = info.nextActionTimes;
    return { paused: state.paused, nextRun: next && !state.paused ? instantAt(next) : null };
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return null;
    throw error;
  }
}

/** Brings Temporal in line with the table of maintenance: what is new is made, what was changed is changed, what is in it no more goes. */
export async function reconcileMaintenance(client: Client): Promise<void> {
  for (const name of maintenanceNames) await ensureSchedule(client, maintenanceTimetable(name), { keepsPause: true });
  const wanted = new Set(maintenanceNames.map(maintenanceId));
  for await (const { scheduleId } of client.schedule.list())
    if (scheduleId.startsWith(maintenancePrefix) && !wanted.has(scheduleId))
      await ensureScheduleAbsent(client, scheduleId);
}
