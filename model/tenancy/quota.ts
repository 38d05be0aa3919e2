import { Type } from 'typebox';
import { choice, field, kind, Uuid } from '../kind.ts';

/** What can be counted. Usage is the sum over living records; a counter without a limit costs nothing. */
export const counters = [
  'instances',
  'vcpus',
  'memoryMib',
  'volumes',
  'volumeGib',
  'snapshots',
  'images',
  'vpcs',
  'floatingIps',
  'portForwards',
  'targetGroups',
  'loadBalancers',
  'listeners',
  'routeTables',
  'networks',
  'subnets',
  'networkInterfaces',
  'addressGroups',
  'certificates',
  'securityGroups',
  'firewallPolicies',
  'keyPairs',
  'schedules',
  'projects',
  'users',
  'apiKeys',
] as const;

export const quota = kind({
  name: 'quota',
  plural: 'quotas',
  area: 'tenancy',
  scope: 'platform',
  liesBy: 'scope',
  summary: 'A limit of one counter at one domain, account or project',
  fields: {
    scopeKind: choice(['domain', 'account', 'project'], 'create!'),
    scopeId: field(Uuid, 'create!'),
    counter: choice(counters, 'create!'),
    limit: field(Type.Integer({ minimum: 0, maximum: 2_000_000_000 }), 'patch!'),
  },
  unique: [{ fields: ['scopeId', 'counter'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Set a limit', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a limit', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Lift a limit', mode: 'sync', operatorOnly: true },
  },
});
