import { boolean, kind, ref, text } from '../kind.ts';

/** Domains form the tree that accounts hang in; the root domain is made with the installation. */
export const domain = kind({
  name: 'domain',
  plural: 'domains',
  area: 'tenancy',
  scope: 'domain',
  lies: { domain: 'id' },
  summary: 'A branch of the tree of tenants',
  fields: {
    parentId: ref('domain', 'create!', { use: 'get', onDelete: 'cascade' }),
    path: text(2048, 'system', { description: 'Ids from the root to this domain, joined by slashes' }),
    enabled: boolean('patch', {
      default: true,
      description: 'false: nothing new is made or started in it and below; what runs stays',
    }),
  },
  unique: [{ fields: ['parentId', 'name'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make a domain', mode: 'sync' },
    update: { summary: 'Change a domain', mode: 'sync' },
    delete: { summary: 'Remove an empty domain', mode: 'sync' },
  },
});
