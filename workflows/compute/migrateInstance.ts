import { saga } from '../saga.ts';
import { hypervisor, networkInterfaces, placement } from '../steps.ts';

export interface MigrateInstance {
  instanceId: string;
  /** Where to; chosen by placement when not given. */
  hostId?: string | null;
  bandwidthBytesPerSec?: number | null;
}

export interface Migrated {
  hostId: string;
  downtimeMs: number;
  totalMs: number;
  transferredBytes: number;
}

/**
 * Moves a running instance to another host of its cluster without stopping it.
 *
 * Until the switch-over the source goes on as if nothing had been. After it there is no way back: the source copy no longer
 * exists, so what follows only goes forward.
 */
export async function migrateInstance({
  instanceId,
  hostId = null,
  bandwidthBytesPerSec = null,
}: MigrateInstance): Promise<Migrated> {
  return saga(async (step) => {
    const move = { instanceId, ...(await step(placement.reserveMove, { instanceId, hostId })) };
    const { sourceHostId, targetHostId } = move;
    const source = { instanceId, hostId: sourceHostId };
    await step(networkInterfaces.bindToBoth, move);
    const figures = await step(hypervisor.migrate, { ...source, targetHostId, bandwidthBytesPerSec });
    step.commit();
    await step(networkInterfaces.bindToTarget, { instanceId, targetHostId });
    await step(hypervisor.leaveSource, { ...source, targetHostId });
    await step(placement.settleMove, move);
    return { hostId: targetHostId, ...figures };
  });
}
