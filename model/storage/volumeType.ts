import { Type } from 'typebox';
import { boolean, choice, integer, json, kind, object, text } from '../kind.ts';

const limit = Type.Optional(Type.Integer({ minimum: 1 }));

export const volumeType = kind({
  name: 'volumeType',
  plural: 'volume-types',
  area: 'storage',
  scope: 'platform',
  summary: 'A storage class with limits',
  catalogue: true,
  fields: {
    storageClass: text(32, 'create!'),
    minSizeGib: integer(1, 65_536, 'patch', { default: 1 }),
    maxSizeGib: integer(1, 65_536, 'patch', { default: 65_536 }),
    qos: json(object({ readIops: limit, writeIops: limit, readBytesPerSec: limit, writeBytesPerSec: limit }), 'patch'),
    visibility: choice(['public', 'private'], 'patch', { default: 'public' }),
    enabled: boolean('patch', {
      default: true,
      description: 'false: no new space of it; volumes that are there are attached and used as ever, but do not grow',
    }),
  },
  actions: {
    create: { summary: 'Make a volume type', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a volume type', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove a volume type that no volume has', mode: 'sync', operatorOnly: true },
  },
});
