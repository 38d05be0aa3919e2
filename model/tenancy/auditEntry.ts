import { Type } from 'typebox';
import { choice, field, integer, json, kind, ref, text, Uuid } from '../kind.ts';

/** Append-only. A background process seals entries into a hash chain in commit order, so that no request waits for another. */
export const auditEntry = kind({
  name: 'auditEntry',
  plural: 'audit-entries',
  area: 'tenancy',
  scope: 'project',
  summary: 'Who asked what, whether it was allowed, how it ended',
  readOnly: true,
  fields: {
    sequence: integer(0, Number.MAX_SAFE_INTEGER, 'system', { description: 'Place in the chain; null until sealed' }),
    actorUserId: ref('user', 'system', { onDelete: 'ignore' }),
    actorApiKeyId: ref('apiKey', 'system', { onDelete: 'ignore' }),
    sourceAddress: text(64, 'system'),
    permission: text(128, 'system'),
    resourceKind: text(64, 'system'),
    resourceId: field(Uuid, 'system'),
    input: json(Type.Unknown(), 'system', { description: 'The body, secrets masked' }),
    outcome: choice(['allowed', 'denied', 'succeeded', 'failed'], 'system'),
    code: text(64, 'system'),
    operationId: field(Uuid, 'system'),
    requestId: text(64, 'system'),
    previousHash: text(64, 'system'),
    hash: text(64, 'system'),
    form: integer(1, 1000, 'system', { default: 1, description: 'Of what the hash covers' }),
  },
  orderable: ['sequence'],
  actions: {},
});
