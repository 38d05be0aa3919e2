import { run } from '../../database/database.ts';
import { findSpace } from '../../database/placement.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { enforce, sizeToBe } from '../quota.ts';
import { invalid } from '../violation.ts';

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

const notAttached = (row: Row): void => {
  if (row.instanceId)
    throw new Problem('ALREADY_ATTACHED', `volume ${row.id} is attached to instance ${String(row.instanceId)}`, {
      resource: { kind: 'instance', id: String(row.instanceId) },
    });
};

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
    references: (input) => [{ kind: 'instance', id: String(input.instanceId), field: 'instanceId', mode: 'X' }],
    accept({ row, input, references, holds, workflowInput }) {
      notAttached(row);
      const instance = references.get(`instance/${String(input.instanceId)}`);
      if (instance?.zoneId !== row.zoneId) throw invalid('instanceId', 'is in another zone');
      holds.push({ kind: 'instance', id: String(input.instanceId), mode: 'X', from: ['running', 'stopped'] });
      workflowInput.instanceId = input.instanceId;
    },
  },
  'volume.detach': {
    accept({ row, holds, references, workflowInput }) {
      const instanceId = attachedTo(row);
      if (row.role === 'root')
        throw new Problem('NOT_SUPPORTED', `volume ${row.id} is the root of instance ${instanceId} and goes with it`);
      holds.push({ kind: 'instance', id: instanceId, mode: 'X' });
      references.set(`instance/${instanceId}`, { id: instanceId, revision: 0 });
      workflowInput.instanceId = instanceId;
    },
  },
  'volume.resize': {
    async accept({ tx, row, input, holds, workflowInput, references }) {
      const sizeGib = Number(input.sizeGib);
      if (sizeGib <= Number(row.sizeGib))
        throw invalid('sizeGib', `must be more than ${String(row.sizeGib)}: volumes only grow`);
      if (row.instanceId) {
        holds.push({ kind: 'instance', id: String(row.instanceId), mode: 'X' });
        references.set(`instance/${String(row.instanceId)}`, { id: String(row.instanceId), revision: 0 });
      }
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
    accept({ row, input, references, workflowInput }) {
      notAttached(row);
      if (references.get(`snapshot/${String(input.snapshotId)}`)?.volumeId !== row.id)
        throw invalid('snapshotId', 'is of another volume');
      workflowInput.snapshotId = input.snapshotId;
    },
  },
  'volume.delete': { accept: ({ row }) => notAttached(row) },
};
