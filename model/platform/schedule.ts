import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, choice, field, Instant, instant, integer, json, kind, object, ref, Uuid } from '../kind.ts';
import { manyTargets } from './operation.ts';

const keep = (description: string) => Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description }));

/** What recurs, or is done once at a set time: each run is an operation, which runs one action on many resources. */
export const schedule = kind({
  name: 'schedule',
  plural: 'schedules',
  area: 'platform',
  scope: 'project',
  finds: true,
  orPlatform: true,
  summary: 'An action that is run at set times, on what is found then',
  fields: {
    cron: field(Type.String({ minLength: 1, maxLength: 256 }), 'patch', {
      description: 'Minute, hour, day of the month, month, day of the week, such as `30 3 * * MON-FRI`; or `@daily`',
    }),
    timeZone: field(Type.String({ minLength: 1, maxLength: 64 }), 'patch', {
      default: 'UTC',
      description: 'Of cron, and of the days that retention counts, such as `Europe/Berlin`',
    }),
    at: field(Instant, 'patch', { future: true, description: 'Once, in place of cron' }),
    action: field(
      Type.String({
        pattern: pattern(
          '^[a-z][A-Za-z]{0,63}\\.[a-z][A-Za-z]{0,63}$',
          'must be an action of a kind, such as snapshot.create or instance.stop',
        ),
      }),
      'create!',
      {
        description:
          'On one resource, such as `instance.stop`; or the create of what belongs to one: `snapshot.create`',
      },
    ),
    input: json(Type.Record(Type.String(), Type.Unknown()), 'patch', {
      default: {},
      description: 'What the action takes, the same for all; no secrets',
    }),
    targets: json(
      Type.Object(
        {
          ids: Type.Optional(Type.Array(Uuid, { minItems: 1, maxItems: manyTargets, uniqueItems: true })),
          filter: Type.Optional(
            Type.String({ maxLength: 4096, description: 'As in lists; those that it finds at each run' }),
          ),
        },
        { additionalProperties: false },
      ),
      'patch!',
      { description: 'Either ids or a filter; of `snapshot.create` those of volumes' },
    ),
    retention: json(
      object({
        keepLast: keep('So many of the newest'),
        keepHourly: keep('The newest of each of so many hours'),
        keepDaily: keep('The newest of each of so many days'),
        keepWeekly: keep('The newest of each of so many weeks, which begin on Mondays'),
        keepMonthly: keep('The newest of each of so many months'),
        maxAgeSeconds: Type.Optional(
          Type.Integer({ minimum: 60, maximum: 3_153_600_000, description: 'What is older goes in any case' }),
        ),
      }),
      'patch',
      { description: 'Which of its own products a run leaves, of each target; null: all' },
    ),
    overlap: choice(['skip', 'queue'], 'patch', {
      default: 'skip',
      description: 'A run that is due while the one before it still runs is left out, or waits for its end',
    }),
    windowSeconds: integer(10, 31_536_000, 'patch', {
      default: 3600,
      description: 'A run that can not begin so long after its time is left out',
    }),
    endsWithWindow: boolean('patch', {
      default: false,
      description:
        'The window is one of maintenance: nothing more is begun that would not be done before its end, taken to last as long as the slowest of the run. What is left is told, and the next run of cluster.rollingMaintenance goes on with it',
    }),
    maxParallel: integer(1, 50, 'patch', { default: 10 }),
    enabled: boolean('patch', { default: true, description: 'false: paused' }),
    runAsUserId: ref('user', 'system', {
      onDelete: 'ignore',
      description: 'Who has said last what is run: whose rights are asked for at each run',
    }),
    runAsApiKeyId: ref('apiKey', 'system', { onDelete: 'ignore' }),
    everySeconds: integer(1, 31_536_000, 'system', {
      description: "Of the platform's own: so long after each other they run",
    }),
    lastRun: instant('system'),
    lastOperationId: ref('operation', 'system', { onDelete: 'ignore' }),
    nextRun: instant('system', { description: 'As Temporal has told when it last ran or was changed' }),
  },
  states: ['creating', 'active', 'deleting', 'failed'],
  orderable: ['nextRun'],
  actions: {
    create: {
      summary: 'Run an action at set times',
      mode: 'operation',
      via: 'creating',
      to: 'active',
      cancellable: true,
      steps: ['schedules.publish', 'schedules.lookAhead'],
    },
    update: {
      summary: 'Change a schedule, pause it, or let it go on',
      mode: 'operation',
      from: ['active'],
      cancellable: true,
      // Who asks for the change may say anew what is run, or when: in that name it runs from then on.
      tells: object({ patch: Type.Record(Type.String(), Type.Unknown()), takesOver: Type.Boolean() }),
      steps: ['schedules.plan', 'schedules.write', 'schedules.publish', 'schedules.lookAhead'],
    },
    delete: {
      summary: 'End a schedule; what it has made stays',
      mode: 'operation',
      lock: 'D',
      from: ['active'],
      via: 'deleting',
      to: 'deleted',
      cancellable: true,
      steps: ['schedules.withdraw'],
    },
    runNow: {
      summary: 'Run it now, in the name of who asks; a run that is due is the same in the name of who it runs as',
      happened: 'run',
      mode: 'operation',
      holdsTarget: false,
      cancellable: true,
      // Of a run that was due, and not asked for.
      tells: object({ dueAt: Type.Optional(Instant) }),
      steps: [
        'schedules.expand',
        { name: 'action', system: 'operation', undo: 'cancel it while it runs', when: 'once for each target' },
        { name: 'schedules.expire', when: 'it has a retention' },
        { name: 'delete', system: 'operation', undo: null, when: 'once for each product that goes' },
      ],
    },
  },
});
