import { ask, maintain, repairFound } from '../maintain.ts';
import { audits } from '../steps.ts';

/** What lies in pools beside the records, one pool after the other. Of one that can not be asked, the others' turn comes all the same. */
export const scanPools = (): Promise<void> =>
  maintain(async () => {
    const { pools } = await ask(audits.pools, { id: null });
    for (const pool of pools) await ask(audits.pool, pool).catch(() => {});
    await repairFound(['rbd', 'host']);
  });
