/** Events and audit entries get their places in order, behind the commits of those who wrote them; and the head of the trail is noted. */
import { noteHead, sealAudit } from '../activities/platform/trail.ts';
import { type Database, run, transaction } from '../database/database.ts';
import type { Log } from '../runtime/log.ts';
import type { Loop } from './loop.ts';

const sealOrder = `ORDER BY "createdAt", id LIMIT 1000`;

/** Places events in the stream after their commit, so that a follower who has seen number n has seen all before it. */
const sealEvents = (database: Database): Promise<number> =>
  transaction(database, async (tx) => {
    const [lock] = await run<{ mine: boolean }>(
      tx,
      `SELECT pg_try_advisory_xact_lock(hashtextextended('seal events', 0)) AS mine`,
    );
    if (!lock?.mine) return 0;
    const sealed = await run(
      tx,
      `WITH fresh AS (SELECT id, row_number() OVER (ORDER BY "createdAt", id) AS place FROM (SELECT id, "createdAt" FROM "event" WHERE sequence IS NULL ${sealOrder}) f),
            last AS (SELECT coalesce(max(sequence), 0) AS n FROM "event")
       UPDATE "event" e SET sequence = last.n + fresh.place FROM fresh, last WHERE e.id = fresh.id RETURNING 1`,
    );
    return sealed.length;
  });

export const sealers = (database: Database, log: Log): Loop[] => [
  {
    what: 'sealing events',
    work: () => sealEvents(database),
    pauseMs: (sealed) => (sealed === 0 ? 150 : 0),
  },
  {
    what: 'sealing the audit trail',
    work: () => sealAudit(database),
    pauseMs: (sealed) => (sealed === 0 ? 500 : 0),
  },
  {
    what: 'noting the head of the audit trail',
    // The log of whoever seals is where the notes are looked for.
    work: () =>
      noteHead(
        database,
        (note) => log.info({ note }, 'the audit trail goes on from here'),
        (note) => log.error({ note }, 'the audit trail does not hold any more what was noted of it'),
      ),
    pauseMs: () => 10_000,
  },
];
