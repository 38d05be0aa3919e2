import { choice, instant, kind, ref, text } from '../kind.ts';

export const user = kind({
  name: 'user',
  plural: 'users',
  area: 'tenancy',
  scope: 'account',
  lies: { account: 'accountId' },
  own: { user: 'id' },
  summary: 'A person or a service that acts',
  fields: {
    accountId: ref('account', 'create!', { use: 'get', onDelete: 'cascade' }),
    userName: text(128, 'create!'),
    type: choice(['person', 'service'], 'create', {
      default: 'person',
      description: 'For people to tell them apart; either may what its bindings give',
    }),
    email: text(254, 'patch', { description: 'For people; the platform writes to nobody' }),
    displayName: text(128, 'patch', { description: 'For people' }),
    lastLoginAt: instant('system'),
  },
  states: ['active', 'locked', 'disabled'],
  orderable: ['userName'],
  unique: [{ fields: ['accountId', 'userName'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make a user', mode: 'sync', to: 'active' },
    update: { summary: 'Change a user', mode: 'sync' },
    enable: { summary: 'Let a disabled user act again', mode: 'sync', from: ['disabled'], to: 'active' },
    disable: { summary: 'Refuse everything the user asks', mode: 'sync', from: ['active', 'locked'], to: 'disabled' },
    delete: { summary: 'Remove a user with its keys and bindings', mode: 'sync' },
  },
});
