import { Type } from 'typebox';
import { boolean, field, Ip, kind, text } from '../kind.ts';

export const zone = kind({
  name: 'zone',
  plural: 'zones',
  area: 'platform',
  scope: 'platform',
  summary: 'A data centre',
  catalogue: true,
  fields: {
    enabled: boolean('patch', { default: true, description: 'false: nothing new is placed here' }),
    dnsServers: field(Type.Array(Ip, { maxItems: 8 }), 'patch', { default: [] }),
    domainName: text(253, 'patch'),
  },
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make a zone', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a zone', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove an empty zone', mode: 'sync', operatorOnly: true },
  },
});
