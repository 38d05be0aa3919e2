import { from, statement, type Values } from './statement.ts';

/** A setting, as it is now. */
export const settingOf = statement((p: Values<{ name: string }>) =>
  from.selectFrom('setting').select('value').where('name', '=', p.name),
);
