import { Type } from 'typebox';
import { json, kind, text } from '../kind.ts';

/** A declared setting with its value. Its name is its key; declared ones exist from the start and can not be deleted. */
export const setting = kind({
  name: 'setting',
  plural: 'settings',
  area: 'platform',
  scope: 'platform',
  summary: 'A global setting',
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  readOnly: true,
  fields: {
    value: json(Type.Unknown(), 'patch'),
    defaultValue: json(Type.Unknown(), 'system'),
    valueSchema: json(Type.Unknown(), 'system'),
    unit: text(32, 'system'),
    settingArea: text(32, 'system'),
  },
  actions: {
    update: { summary: 'Change a setting', mode: 'sync', operatorOnly: true },
    reset: { summary: 'Return a setting to its default', happened: 'reset', mode: 'sync', operatorOnly: true },
  },
});
