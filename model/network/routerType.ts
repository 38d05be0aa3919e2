import { Type } from 'typebox';
import { boolean, choice, field, kind, oneOf } from '../kind.ts';

/** What a VPC of a type may have. */
export const routerServices = ['snat', 'floatingIp', 'portForward', 'loadBalancer'] as const;
export type RouterService = (typeof routerServices)[number];

export const routerType = kind({
  name: 'routerType',
  plural: 'router-types',
  area: 'network',
  scope: 'platform',
  summary: 'What the gateway of a VPC is made of, and what it may do',
  catalogue: true,
  fields: {
    redundant: boolean('patch', {
      default: true,
      description: 'Two gateway hosts, of which the second takes over; of VPCs that are made from now on',
    }),
    services: field(Type.Array(oneOf(...routerServices), { uniqueItems: true, maxItems: 8 }), 'patch', {
      default: [...routerServices],
      description: 'What is allowed from now on; what is there stays',
    }),
    visibility: choice(['public', 'private'], 'patch', { default: 'public' }),
    enabled: boolean('patch', { default: true, description: 'false: no new VPC is of it' }),
  },
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  actions: {
    create: { summary: 'Offer a router type', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a router type', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove a router type that no VPC is of', mode: 'sync', operatorOnly: true },
  },
});
