import { Type } from 'typebox';
import { boolean, field, instant, integer, json, kind, object, ref, text, Uuid } from '../kind.ts';

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

/** One accepted asynchronous change. Its id is the Temporal workflow id. */
export const operation = kind({
  name: 'operation',
  plural: 'operations',
  area: 'platform',
  scope: 'project',
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
    requestId: text(64, 'system'),
  },
  states: operationStates,
  actions: {
    cancel: { summary: 'Ask a running or queued operation to undo itself', mode: 'sync' },
    retry: {
      summary: 'Try the stuck step again',
      mode: 'sync',
      from: ['stuck'],
      input: object({ step: Type.Optional(answeredStep) }),
    },
    skipStep: {
      summary: 'Give up the stuck step; what it leaves must be cleaned by hand',
      mode: 'sync',
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
