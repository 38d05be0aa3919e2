import { boolean, kind, ref } from '../kind.ts';

/** What holds a tenant's resources. */
export const project = kind({
  name: 'project',
  plural: 'projects',
  area: 'tenancy',
  scope: 'account',
  summary: 'A set of resources of one account',
  fields: {
    accountId: ref('account', 'create!', { onDelete: 'cascade', ownWhen: { field: 'isDefault', value: true } }),
    isDefault: boolean('system', { default: false }),
  },
  states: ['active', 'suspended'],
  uniqueName: 'account',
  actions: {
    create: { summary: 'Make a project', mode: 'sync', to: 'active' },
    update: { summary: 'Change a project', mode: 'sync' },
    delete: { summary: 'Remove an empty project', mode: 'sync' },
  },
});
