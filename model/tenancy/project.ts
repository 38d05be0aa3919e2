import { boolean, kind, ref } from '../kind.ts';

/** What holds a tenant's resources. */
export const project = kind({
  name: 'project',
  plural: 'projects',
  area: 'tenancy',
  scope: 'account',
  lies: { project: 'id', account: 'accountId' },
  summary: 'A set of resources of one account',
  fields: {
    accountId: ref('account', 'create!', {
      use: 'get',
      onDelete: 'cascade',
      ownWhen: { field: 'isDefault', value: true },
    }),
    isDefault: boolean('system', { default: false }),
  },
  states: ['active', 'suspended'],
  unique: [
    { fields: ['accountId', 'name'], code: 'NAME_IN_USE' },
    { fields: ['accountId'], among: { isDefault: true }, code: 'NAME_IN_USE' },
  ],
  actions: {
    create: { summary: 'Make a project', mode: 'sync', to: 'active' },
    update: { summary: 'Change a project', mode: 'sync' },
    delete: { summary: 'Remove an empty project', mode: 'sync' },
  },
});
