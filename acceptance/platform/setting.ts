import type { Hooks } from '../change.ts';
import { check } from '../validate.ts';

export const settingHooks: Hooks = {
  'setting.update': {
    accept({ row, input }) {
      const schema = { type: 'object', properties: { value: row.valueSchema as Record<string, unknown> } };
      input.value = check(`setting ${String(row.name)}`, () => schema, { value: input.value }).value;
    },
  },
  'setting.reset': {
    accept({ row }) {
      row.value = row.defaultValue;
    },
  },
};
