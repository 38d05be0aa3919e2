import { run } from '../../database/database.ts';
import { findSpace } from '../../database/placement.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Condition, Hooks, Row } from '../change.ts';
import { enforce, sizeToBe } from '../quota.ts';
import { invalid } from '../violation.ts';
import { instanceOf, relatedInstance, stillAttachedTo } from './snapshot.ts';

function typeAllows(type: Row | undefined, sizeGib: number): void {
  if (sizeGib < Number(type?.minSizeGib ?? 1) || sizeGib > Number(type?.maxSizeGib ?? 65_536))
    throw invalid(
      'sizeGib',
      `must be between ${String(type?.minSizeGib)} and ${String(type?.maxSizeGib)} for this volume type`,
    );
}

async function create(accepting: Accepting): Promise<void> {
  const { tx, row, input, references } = accepting;
  const source = (input.source ?? {}) as { imageId?: string; snapshotId?: string };
  if (source.imageId && source.snapshotId) throw invalid('source', 'names at most one of imageId, snapshotId');
  if (references.get(`zone/${String(input.zoneId)}`)?.enabled === false)
    throw invalid('zoneId', 'is closed to new resources');
  const from = references.get(source.imageId ? `image/${source.imageId}` : `snapshot/${source.snapshotId}`);
  if (from && from.zoneId !== input.zoneId) throw invalid('source', 'is in another zone');
  const least = Number(from?.minSizeGib ?? from?.sizeGib ?? 0);
  const sizeGib = Number(input.sizeGib ?? least);
  if (sizeGib === 0) throw invalid('sizeGib', 'is needed for an empty volume');
  if (sizeGib < least) throw invalid('sizeGib', `must be at least ${least}, the size of its source`);
  const type = references.get(`volumeType/${String(input.volumeTypeId)}`);
  if (type?.enabled === false) throw invalid('volumeTypeId', 'is not offered any more');
  typeAllows(type, sizeGib);
  row.sizeGib = sizeGib;
  const need = { id: row.id, sizeGib, poolId: null, storageClass: String(type?.storageClass) };
  accepting.placement = await findSpace(tx, String(input.zoneId), need);
}

const notAttached = (volume: Row): Condition => ({
  field: 'instanceId',
  is: null,
  code: 'ALREADY_ATTACHED',
  message: `volume ${volume.id} is attached to an instance`,
});

const attachedTo = (row: Row): string => {
  if (!row.instanceId) throw new Problem('INVALID_STATE', `volume ${row.id} is not attached`);
  return String(row.instanceId);
};

export const volumeHooks: Hooks = {
  'volume.create': {
    references(input) {
      const source = (input.source ?? {}) as { imageId?: string; snapshotId?: string };
      return [
        ...(source.imageId ? [{ kind: 'image', id: source.imageId, field: 'source.imageId' }] : []),
        ...(source.snapshotId ? [{ kind: 'snapshot', id: source.snapshotId, field: 'source.snapshotId' }] : []),
      ];
    },
    accept: create,
  },
  'volume.attach': {
    references: (input) => [{ kind: 'instance', id: String(input.instanceId), field: 'instanceId' }],
    conditions: ({ row }) => [notAttached(row)],
    holds: ({ input }) => [{ kind: 'instance', id: String(input.instanceId), mode: 'X', from: ['running', 'stopped'] }],
    accept({ row, input, references, workflowInput }) {
      const instance = references.get(`instance/${String(input.instanceId)}`);
      if (instance?.zoneId !== row.zoneId) throw invalid('instanceId', 'is in another zone');
      workflowInput.instanceId = input.instanceId;
    },
  },
  'volume.detach': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [
      stillAttachedTo(row),
      {
        field: 'role',
        is: 'data',
        code: 'NOT_SUPPORTED',
        message: `volume ${row.id} is the root of instance ${String(row.instanceId)} and goes with it`,
      },
    ],
    holds: ({ row }) => instanceOf(row),
    accept({ row, workflowInput }) {
      workflowInput.instanceId = attachedTo(row);
    },
  },
  'volume.resize': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
    async accept({ tx, row, input, workflowInput }) {
      const sizeGib = Number(input.sizeGib);
      if (sizeGib <= Number(row.sizeGib))
        throw invalid('sizeGib', `must be more than ${String(row.sizeGib)}: volumes only grow`);
      workflowInput.sizeGib = sizeGib;
      // The growth is not in the records yet, so it is asked of the limit as if it were; what another resize was promised is.
      const [promised] = await run<{ sizeGib: number }>(
        tx,
        `SELECT ${sizeToBe} AS "sizeGib" FROM "volume" t WHERE t.id = $1`,
        [row.id],
      );
      const growth = Math.max(0, sizeGib - Number(promised?.sizeGib));
      await enforce(tx, { projectId: String(row.projectId) }, { volumeGib: growth }, { recorded: false });
    },
  },
  'volume.revert': {
    references: (input) => [{ kind: 'snapshot', id: String(input.snapshotId), field: 'snapshotId' }],
    conditions: ({ row }) => [notAttached(row)],
    accept({ row, input, references, workflowInput }) {
      if (references.get(`snapshot/${String(input.snapshotId)}`)?.volumeId !== row.id)
        throw invalid('snapshotId', 'is of another volume');
      workflowInput.snapshotId = input.snapshotId;
    },
  },
  'volume.delete': { conditions: ({ row }) => [notAttached(row)] },
};
