import { ask, maintain, repairFound } from '../maintain.ts';
import { audits } from '../steps.ts';

/** What lies in pools beside the records, one pool after the other. Of one that can not be asked, the others' turn comes all the same. */
export const scanPools = (): Promise<void> =>
  maintain(async () => {
    const { pools } = await ask(audits.pools, { id: null });
    const failures: unknown[] = [];
    for (const pool of pools) await ask(audits.pool, pool).catch((error: unknown) => failures.push(error));
    await repairFound(['rbd', 'host']);
    if (failures.length > 0) throw failures[0];
  });
