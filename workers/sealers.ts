/** Events and audit entries get their places in order, behind the commits of those who wrote them; and the head of the trail is noted. */
import { noteHead, sealAudit } from '../activities/platform/trail.ts';
import type { Database } from '../database/database.ts';
import { sealEvents } from '../database/events.ts';
import type { Log } from '../runtime/log.ts';
import type { Loop } from './loop.ts';

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
