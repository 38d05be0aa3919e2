import { Type } from 'typebox';
import { choice, field, integer, json, kind, text, Uuid } from '../kind.ts';

/** Something that happened to a resource, in commit order. */
export const event = kind({
  name: 'event',
  plural: 'events',
  area: 'platform',
  scope: 'project',
  followed: true,
  summary: 'Something that happened to a resource',
  readOnly: true,
  fields: {
    type: text(128, 'system'),
    severity: choice(['info', 'warning', 'error', 'critical'], 'system', { default: 'info' }),
    resourceKind: text(64, 'system'),
    resourceId: field(Uuid, 'system'),
    operationId: field(Uuid, 'system'),
    payload: json(Type.Unknown(), 'system'),
    sequence: integer(0, Number.MAX_SAFE_INTEGER, 'system'),
  },
  orderable: ['sequence'],
  actions: {},
});
