import { Type } from 'typebox';
import { boolean, Cidr, json, kind, object, oneOf } from '../kind.ts';

export const SecurityRule = object({
  direction: oneOf('in', 'out'),
  protocol: oneOf('any', 'tcp', 'udp', 'icmp'),
  fromPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  toPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  remoteCidr: Type.Optional(Cidr),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});

/** Stateful allow rules on interfaces; everything else inbound is dropped. Outbound is open unless a rule names it. */
export const securityGroup = kind({
  name: 'securityGroup',
  plural: 'security-groups',
  area: 'network',
  scope: 'project',
  summary: 'Which traffic may reach the interfaces that carry it',
  fields: {
    zoneId: json(Type.String({ format: 'uuid' }), 'create!', { ref: 'zone', onDelete: 'block' }),
    rules: json(Type.Array(SecurityRule, { maxItems: 256 }), 'create', { default: [] }),
    isDefault: boolean('system', { default: false }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Make a security group',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: [{ name: 'securityGroups.make', system: 'ovn', undo: 'delete port group' }],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setRules: {
      summary: 'Replace all rules at once',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ rules: Type.Array(SecurityRule, { maxItems: 256 }) }),
      pointOfNoReturn: 'securityGroups.recordRules',
      steps: [
        { name: 'securityGroups.replaceRules', system: 'ovn', undo: 'old rules' },
        { name: 'securityGroups.recordRules', system: 'record', undo: null },
      ],
    },
    delete: {
      summary: 'Remove a group that no interface carries',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'securityGroups.remove',
      steps: [{ name: 'securityGroups.remove', system: 'ovn', undo: null }],
    },
  },
});
