import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, field, instant, integer, json, kind, object, ref, text, Uuid, withDefault } from '../kind.ts';

export const operationStates = [
  'queued',
  'running',
  'rollingBack',
  'succeeded',
  'failed',
  'cancelled',
  'stuck',
] as const;
export const finalOperationStates = ['succeeded', 'failed', 'cancelled'] as const;
export const stepStates = ['pending', 'running', 'done', 'undoing', 'undone', 'failed', 'skipped'] as const;

const answeredStep = Type.Integer({
  minimum: 0,
  maximum: 100_000,
  description:
    'Index of the step that this is for, `error.stepIndex`; refused when the operation is stuck in another by now',
});

/** So many targets `runMany` takes at a time. */
export const manyTargets = 1_000;

/** One accepted asynchronous change. Its id is the Temporal workflow id. */
export const operation = kind({
  name: 'operation',
  plural: 'operations',
  area: 'platform',
  scope: 'project',
  ends: true,
  summary: 'An accepted change, its steps and how it ended',
  readOnly: true,
  fields: {
    type: text(128, 'system'),
    targetKind: text(64, 'system'),
    targetId: field(Uuid, 'system'),
    actorUserId: ref('user', 'system', { onDelete: 'ignore' }),
    actorApiKeyId: ref('apiKey', 'system', { onDelete: 'ignore' }),
    input: json(Type.Unknown(), 'system', { description: 'Secrets masked' }),
    progress: integer(0, 100, 'system', { default: 0 }),
    steps: json(Type.Array(Type.Unknown()), 'system', { default: [] }),
    pointOfNoReturnPassed: boolean('system', { default: false }),
    cancelRequestedAt: instant('system'),
    dispatchAt: instant('system', {
      description: 'When its workflow is asked for again, should it not have begun by then',
    }),
    startedAt: instant('system'),
    endedAt: instant('system'),
    error: json(Type.Unknown(), 'system'),
    result: json(Type.Unknown(), 'system'),
    waitsFor: text(1024, 'system', {
      description:
        'What a person is to do before it goes on, which `operation.continue` says is done; or which of its parts waits, and for what: that part is to be continued',
    }),
    requestId: text(64, 'system'),
    parentOperationId: ref('operation', 'system', {
      onDelete: 'ignore',
      description: 'The operation that has begun this one as a part of itself',
    }),
  },
  states: operationStates,
  actions: {
    runMany: {
      summary: 'Run one action on many resources, each as an operation of its own',
      happened: 'manyRun',
      mode: 'operation',
      on: 'collection',
      cancellable: true,
      input: object({
        action: Type.String({
          pattern: pattern(
            '^[a-z][A-Za-z]{0,63}\\.[a-z][A-Za-z]{0,63}$',
            'must be an action of a kind, such as instance.stop',
          ),
        }),
        input: withDefault(
          Type.Record(Type.String(), Type.Unknown(), {
            description: 'What the action takes, the same for all; no secrets',
          }),
          {},
        ),
        targets: Type.Object(
          {
            ids: Type.Optional(Type.Array(Uuid, { minItems: 1, maxItems: manyTargets, uniqueItems: true })),
            filter: Type.Optional(
              Type.String({
                maxLength: 4096,
                description: 'As in lists; those that it finds now, in the order of their making',
              }),
            ),
          },
          { additionalProperties: false, description: 'Either ids or a filter; all in one project, or none in any' },
        ),
        maxParallel: withDefault(Type.Integer({ minimum: 1, maximum: 50 }), 10),
        stopOnFailure: withDefault(
          Type.Boolean({ description: 'Begin no further one once one has failed; what is done stays' }),
          false,
        ),
      }),
      // A filter has found them by then.
      tells: object({ targets: object({ ids: Type.Array(Uuid) }) }),
      steps: [
        { name: 'operation', system: 'operation', undo: 'cancel it while it runs', when: 'once for each target' },
      ],
    },
    cancel: {
      summary: 'Ask a running or queued operation to undo itself',
      happened: 'cancelled',
      mode: 'sync',
      asked: 'run',
    },
    retry: {
      summary: 'Try the stuck step again',
      happened: 'retried',
      mode: 'sync',
      asked: 'run',
      from: ['stuck'],
      input: object({ step: Type.Optional(answeredStep) }),
    },
    continue: {
      summary: 'Say that what it waits for is done',
      happened: 'continued',
      mode: 'sync',
      asked: 'run',
      from: ['running'],
      operatorOnly: true,
    },
    skipStep: {
      summary: 'Give up the stuck step; what it leaves must be cleaned by hand',
      happened: 'stepSkipped',
      mode: 'sync',
      asked: 'run',
      from: ['stuck'],
      operatorOnly: true,
      input: object({ reason: Type.String({ minLength: 3, maxLength: 1024 }), step: Type.Optional(answeredStep) }),
    },
  },
});

export type OperationState = (typeof operationStates)[number];
export type StepState = (typeof stepStates)[number];

/** An operation's step as the API tells it. */
export interface StepRecord {
  name: string;
  state: StepState;
  attempts: number;
  startedAt: string;
  endedAt: string | null;
  error: { code: string; message: string } | null;
}

/** An operation that another begins. */
export interface ChildRequest {
  /** Such as `instance.stop`. */
  type: string;
  /** Null of a create. */
  targetId: string | null;
  input?: Record<string, unknown>;
  /** What a field of its target must be for it to be begun, and still when its turn has come. */
  onlyIf?: { field: string; is: string };
  /** Nothing is to be done, and that is as good, where its target is gone, or in no state for it any more. */
  whileFit?: true;
  /** It does not fit where the last operation of this type that has succeeded on its target is a part of another operation, or was asked for by hand. */
  whileOwn?: string;
}

/** One of many, and what it is about. */
export interface Piece {
  about: string;
  request: ChildRequest;
}

/** What the run of an operation is begun with. */
export interface StartOperation {
  id: string;
  /** `instance.create`; runs the workflow `createInstance`. */
  type: string;
  input: Record<string, unknown>;
  targetKind: string;
  targetId: string;
  /** As it is called now; its id says it where it has no name. */
  targetName: string;
  projectId: string | null;
}
