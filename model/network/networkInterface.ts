import { field, Ip, integer, kind, ref, refs, text } from '../kind.ts';
import { allowedTraffic } from './traffic.ts';

export const networkInterface = kind({
  name: 'networkInterface',
  plural: 'network-interfaces',
  area: 'network',
  scope: 'project',
  summary: 'A port on a network with MAC and address',
  fields: {
    instanceId: ref('instance', 'system', { onDelete: 'own' }),
    networkId: ref('network', 'system'),
    subnetId: ref('subnet', 'system'),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    mac: text(17, 'system'),
    address: field(Ip, 'system'),
    index: integer(0, 15, 'system', { default: 0 }),
    securityGroupIds: refs('securityGroup', 'system'),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  orderable: ['address'],
  unique: [
    { fields: ['mac'], code: 'ADDRESS_IN_USE', blame: 'networkInterfaces' },
    { fields: ['subnetId', 'address'], code: 'ADDRESS_IN_USE', blame: 'networkInterfaces' },
  ],
  views: { allowedTraffic },
  actions: {},
});
