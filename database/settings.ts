import { from, statement, type Values, written } from './statement.ts';

/** A setting, as it is now. */
export const settingOf = statement((p: Values<{ name: string }>) =>
  from.selectFrom('setting').select('value').where('name', '=', p.name),
);

/** How many answers to Idempotency-Keys are kept for an account, one more than may be at the most; and how many may be. */
export const keptAnswers = written<{ most: number; count: number }, { accountId: string }>(
  `WITH cap AS (SELECT (value #>> '{}')::int AS most FROM "setting" WHERE name = 'idempotency.keptPerAccount')
   SELECT (SELECT most FROM cap) AS most, count(*)::int AS count FROM (
     SELECT 1 FROM "apiKey" k JOIN "idempotencyKey" i ON i."callerId" = k.id WHERE k."accountId" = $accountId LIMIT (SELECT most + 1 FROM cap)) kept`,
);
