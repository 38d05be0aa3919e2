import { kind, ref } from '../kind.ts';

/** Who pays; quota and billing belong to it. Each account has a default project. */
export const account = kind({
  name: 'account',
  plural: 'accounts',
  area: 'tenancy',
  scope: 'domain',
  lies: { account: 'id', domain: 'domainId' },
  own: { account: 'id' },
  summary: 'A customer, with projects, users and quota',
  fields: {
    domainId: ref('domain', 'create!', { use: 'get', onDelete: 'cascade' }),
  },
  states: ['active', 'locked', 'disabled'],
  unique: [{ fields: ['domainId', 'name'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make an account with its default project', mode: 'sync', to: 'active' },
    update: { summary: 'Change an account', mode: 'sync' },
    lock: {
      summary: 'Let nothing new be made or started in its projects, by anybody; what runs stays',
      mode: 'sync',
      from: ['active'],
      to: 'locked',
    },
    unlock: { summary: 'Allow new resources again', mode: 'sync', from: ['locked'], to: 'active' },
    delete: { summary: 'Remove an empty account', mode: 'sync' },
  },
});
