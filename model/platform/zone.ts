import { Type } from 'typebox';
import { boolean, DomainName, field, Ip, kind } from '../kind.ts';

export const zone = kind({
  name: 'zone',
  plural: 'zones',
  area: 'platform',
  scope: 'platform',
  summary: 'A data centre',
  catalogue: true,
  fields: {
    enabled: boolean('patch', { default: true, description: 'false: nothing new is made or placed here' }),
    dnsServers: field(Type.Array(Ip, { maxItems: 8 }), 'patch', {
      default: [],
      description:
        'Told by DHCP in subnets that name none; in those that are made, or whose network is repaired, from now on',
    }),
    domainName: field(DomainName, 'patch', {
      description: 'Told by DHCP in networks without a domain of their own, as dnsServers are',
    }),
  },
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Make a zone', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a zone', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove an empty zone', mode: 'sync', operatorOnly: true },
    reportCapacity: {
      summary: 'Tell what it has, what of that is promised, and how long the rest will last',
      happened: 'reported',
      mode: 'operation',
      operatorOnly: true,
      holdsTarget: false,
      steps: ['zones.measureCapacity'],
    },
  },
});
