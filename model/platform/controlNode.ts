import { Type } from 'typebox';
import { choice, field, instant, kind, object, text } from '../kind.ts';

export const controlRoles = ['api', 'control', 'host', 'dispatcher'] as const;

/** So often each says that it lives, and learns whether it is to give its work away. */
export const beatSeconds = 5;
/** Who has said nothing for so long is lost. */
export const lostAfterSeconds = 20;

export const controlNode = kind({
  name: 'controlNode',
  plural: 'control-nodes',
  area: 'platform',
  scope: 'platform',
  summary: 'A process of the control plane, which registers itself',
  fields: {
    role: choice(controlRoles, 'system', {
      description:
        'api: answers requests; control: runs workflows; host: carries the connections to hosts; dispatcher: starts what has its turn',
    }),
    address: text(253, 'system', { description: 'Where it answers, or else the machine that it runs on' }),
    version: text(64, 'system'),
    startedAt: instant('system'),
    lastHeartbeatAt: instant('system'),
    load: field(Type.Number({ minimum: 0 }), 'system', {
      description: 'Processors that it has kept busy since its last heartbeat',
    }),
    stateBefore: choice(['up', 'draining', 'drained'], 'system', {
      description: 'While it is lost: the state that it was in, and has again once it is heard',
    }),
  },
  states: ['up', 'draining', 'drained', 'lost'],
  actions: {
    drain: {
      summary: 'Let it end what it has begun and take nothing new, so that it can be stopped',
      happened: 'drained',
      mode: 'sync',
      operatorOnly: true,
      from: ['up'],
      to: 'draining',
      input: object({
        force: Type.Optional(
          Type.Boolean({ description: 'Although no other of its role is up: then that work waits' }),
        ),
      }),
    },
    resume: {
      summary: 'Let it take work again',
      happened: 'resumed',
      mode: 'sync',
      operatorOnly: true,
      from: ['draining', 'drained'],
      to: 'up',
    },
    delete: { summary: 'Forget one that is lost', mode: 'sync', operatorOnly: true },
  },
});
