import type { Looked } from '../../activities/platform/audit.ts';
import { audits } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Looks now at what is looked at again and again anyway. */
export const scanFinding = workflow('finding.scan', async (step, { scope, id }) => {
  const all = scope === null;
  let differences = 0;
  let unanswered = 0;

  async function shard(first: string): Promise<void> {
    for (let hostId: string | null = first; hostId !== null; ) {
      const page: Looked = await step(audits.hosts, { hostId, ...(id === null ? {} : { only: true }) });
      differences += page.differences;
      unanswered += page.unanswered;
      hostId = page.next;
    }
  }

  if (all || scope === 'host') {
    const { hostIds } = id === null ? await step(audits.firstHosts, {}) : { hostIds: [id] };
    await Promise.all(hostIds.map(shard));
  }
  if (all || scope === 'storagePool') {
    const { pools } = await step(audits.pools, { id });
    for (const pool of pools) differences += (await step(audits.pool, pool)).differences;
  }
  if (all || scope === 'network') differences += (await step(audits.network, {})).differences;
  if (all || scope === 'risk') differences += (await step(audits.risks, {})).differences;
  return { differences, unanswered };
});
