import { ask, maintain, repairFound } from '../maintain.ts';
import { audits } from '../steps.ts';

/** Guests beside the records: whoever carries a shard goes through its hosts. */
export const scanHosts = (): Promise<void> =>
  maintain(async () => {
    const { hostIds } = await ask(audits.firstHosts, {});
    await Promise.all(
      hostIds.map(async (first) => {
        for (let hostId: string | null = first; hostId !== null; )
          ({ next: hostId } = await ask(audits.hosts, { hostId }));
      }),
    );
    await repairFound(['libvirt']);
  });
