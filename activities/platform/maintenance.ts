/**
 * What the runs of maintenance do. None is a step of an operation: nothing of it is undone, and each may be done twice. What changes resources only
 * begins operations, which the run then follows.
 */

import { archivedAtOnce } from '../../database/archive.ts';
import { from, now, statement, type Values } from '../../database/statement.ts';
import { idOf } from '../../database/wellKnown.ts';
import { maintenanceId, maintenanceNames } from '../../model/platform/maintenance.ts';
import { metrics, tellFromZero } from '../../runtime/metrics.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { archiveOld } from './archive.ts';
import { cleanCaches } from './caches.ts';
import { reportCapacities } from './capacity.ts';
import { renewHostCertificates } from './certificates.ts';
import { releaseForgotten } from './forgotten.ts';
import { rotateCredentials } from './hostCredentials.ts';
import { watchPower } from './hostPower.ts';
import { restartLost } from './lost.ts';
import { forgetOldAnswers, forgetTombstones } from './old.ts';
import { endOverdue, type OverdueKind, type Page } from './overdue.ts';
import { endAbandonedUploads } from './uploads.ts';

const outcomes = ['succeeded', 'failed'] as const;

tellFromZero(
  metrics.maintenance,
  maintenanceNames.flatMap((name) => outcomes.map((outcome) => ({ name, outcome }))),
);

const noteRun = statement((p: Values<{ id: string; nextRun: string | null }>) =>
  from
    .updateTable('schedule')
    .set((eb) => ({ lastRun: now, nextRun: p.nextRun, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null),
);

export const maintenances = ({ database, log, temporalSchedules }: World) => ({
  overdue: step({
    system: 'record',
    do: ({ kind, after }: { kind: OverdueKind; after: string | null }): Promise<Page> =>
      endOverdue(database, kind, after),
  }),
  certificates: step({ system: 'record', do: (_: object) => renewHostCertificates(database, log) }),
  credentials: step({ system: 'record', do: (_: object) => rotateCredentials(database) }),
  power: step({ system: 'bmc', do: (_: object) => watchPower(database, log) }),
  lost: step({ system: 'record', do: (_: object) => restartLost(database) }),
  caches: step({ system: 'record', do: (_: object) => cleanCaches(database) }),
  capacities: step({ system: 'record', do: (_: object) => reportCapacities(database) }),
  uploads: step({ system: 'rgw', do: (_: object) => endAbandonedUploads(database, log) }),
  forgotten: step({
    system: 'record',
    async do(_: object): Promise<{ released: number }> {
      return { released: await releaseForgotten(database, log) };
    },
  }),
  /** Answers whether there may be more to do, here and below. */
  archive: step({
    system: 'rgw',
    do: async (_: object): Promise<boolean> => (await archiveOld(database)) === archivedAtOnce,
  }),
  answers: step({ system: 'record', do: (_: object): Promise<boolean> => forgetOldAnswers(database) }),
  tombstones: step({ system: 'record', do: (_: object): Promise<boolean> => forgetTombstones(database) }),
  /** How a run came to its end. */
  ended: step({
    system: 'record',
    async do({ name, outcome }: { name: string; outcome: (typeof outcomes)[number] }): Promise<void> {
      metrics.maintenance.labels(name, outcome).inc();
      const standing = await temporalSchedules.standing(maintenanceId(name));
      await noteRun(database.connections, { id: idOf(`schedule/${name}`), nextRun: standing?.nextRun ?? null });
    },
  }),
});
