import { Type } from 'typebox';
import { boolean, json, kind, text } from '../kind.ts';

/** The catalogue of everything that can be asked for; made from the code at start. */
export const operationType = kind({
  name: 'operationType',
  plural: 'operation-types',
  area: 'platform',
  scope: 'platform',
  summary: 'What an operation of a type does, step by step',
  readOnly: true,
  catalogue: true,
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  fields: {
    targetKind: text(64, 'system'),
    inputSchema: json(Type.Unknown(), 'system'),
    steps: json(Type.Unknown(), 'system'),
    pointOfNoReturn: text(128, 'system'),
    lockMode: text(1, 'system'),
    cancellable: boolean('system'),
    permission: text(128, 'system'),
  },
  actions: {},
});
