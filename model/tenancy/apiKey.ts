import { Type } from 'typebox';
import { boolean, Cidr, field, instant, kind, ref, text } from '../kind.ts';

/** The secret is in the answer of the create, once; only its hash is stored. */
export const apiKey = kind({
  name: 'apiKey',
  plural: 'api-keys',
  area: 'tenancy',
  scope: 'account',
  lies: { account: 'accountId' },
  own: { user: 'userId' },
  toldOnce: {
    token: 'Only in the answer of the create',
    callbackSecret: 'Signs the callbacks of this key (Standard Webhooks); only in the answer of the create',
  },
  summary: 'A credential of a user',
  fields: {
    userId: ref('user', 'create!', { use: 'get', onDelete: 'own' }),
    accountId: ref('account', 'system', { onDelete: 'own' }),
    accessKey: text(32, 'system'),
    secretHash: text(64, 'system', { secret: true }),
    expiresAt: instant('create', {
      future: true,
      description: 'The end of the key that makes it, unless said; never later than that',
    }),
    allowedCidrs: field(Type.Array(Cidr, { maxItems: 64 }), 'patch', {
      default: [],
      description: 'Where it may be used from, anywhere when empty; those of the key that makes it, unless said',
    }),
    permissions: field(Type.Array(Type.String({ maxLength: 128 }), { maxItems: 256 }), 'create', {
      default: ['*'],
      description: 'Narrower than what the user may: patterns such as `instance.*`',
    }),
    lastUsedAt: instant('system'),
    enabled: boolean('patch', { default: true }),
  },
  unique: [{ fields: ['accessKey'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make an API key; its secret is shown once', mode: 'sync' },
    update: { summary: 'Change an API key', mode: 'sync' },
    delete: { summary: 'Revoke an API key at once', mode: 'sync' },
  },
});
