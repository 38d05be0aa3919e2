import type { Hooks } from '../change.ts';

export const snapshotHooks: Hooks = {
  'snapshot.create': {
    references: (input) => [{ kind: 'volume', id: String(input.volumeId), field: 'volumeId', mode: 'X' }],
    accept({ row, input, references, holds, workflowInput }) {
      const volume = references.get(`volume/${String(input.volumeId)}`);
      Object.assign(row, { zoneId: volume?.zoneId, sizeGib: volume?.sizeGib, poolId: volume?.poolId });
      holds.push({ kind: 'volume', id: String(input.volumeId), mode: 'X', from: ['ready'] });
      if (volume?.instanceId) {
        references.set(`instance/${String(volume.instanceId)}`, { id: String(volume.instanceId), revision: 0 });
        holds.push({ kind: 'instance', id: String(volume.instanceId), mode: 'X' });
      }
      workflowInput.volumeId = input.volumeId;
      workflowInput.quiesce = input.quiesce ?? false;
    },
  },
  'snapshot.delete': {
    accept({ row, holds, references, workflowInput }) {
      references.set(`volume/${String(row.volumeId)}`, { id: String(row.volumeId), revision: 0 });
      holds.push({ kind: 'volume', id: String(row.volumeId), mode: 'X' });
      workflowInput.volumeId = row.volumeId;
    },
  },
};
