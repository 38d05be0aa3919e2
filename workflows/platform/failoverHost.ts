import { patched } from '@temporalio/workflow';
import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { type Failed, partsOf, runEach } from './many.ts';

/** So many instances at a time: as many as keep the parts of a control plane on two processors busy, and not more, for then they wait for one another. */
const atOnce = 40;
const atOnceBefore = 20;
/** Somebody may be at work on an instance each time that its turn has come. What is left then is started as soon as it can be. */
const triesMax = 3;

/**
 * Shuts a host out that has failed, and then starts its instances elsewhere. The order is what keeps two guests from writing to one disk: nothing is
 * let go of before the storage has said that it takes nothing from the host any more.
 *
 * There is no way back once the storage was asked: it may have done so, whatever is heard of it.
 */
export const failoverHost = workflow('host.failover', async (step, { hostId, confirmDead, reason }) => {
  await step(hosts.proveDown, { hostId, confirmDead });
  await step(hosts.noteFailed, { hostId, reason });
  step.commit();
  const fencing = step(hosts.fence, { hostId });
  /** Nothing waits for its power that needs not to: the BMC is silent where the whole rack has none. */
  let cutting: Promise<{ off: boolean } | undefined> | null = patched('its power is cut beside the fence')
    ? step(hosts.cutPower, { hostId })
    : null;
  // What is off writes nothing, so a storage cluster that does not answer keeps nobody waiting then. It is asked on, to the end.
  const isOff = cutting?.then(async (cut) => {
    if (!cut?.off) await fencing;
  });
  await (patched('it is off, or it is shut out') ? Promise.race([fencing, isOff ?? fencing]) : fencing);
  await step(hosts.noteFenced, { hostId, confirmDead });
  const maxParallel = patched('forty instances at a time') ? atOnce : atOnceBefore;
  const tries = new Map<string, number>();
  /** Those that are not to run elsewhere. */
  const leftOff = new Set<string>();
  const ended = { restarted: 0, stopped: 0 };
  let failed: Failed[] = [];
  for (;;) {
    const stranded = await step(hosts.findStranded, { hostId });
    const isDone = ({ targetId, code }: Failed): boolean =>
      code === 'INVALID_STATE' && !stranded.some(({ id }) => id === targetId);
    // Somebody else has seen to it meanwhile, such as whoever had asked the host what the guest does.
    ended.stopped += failed.filter((one) => isDone(one) && leftOff.has(one.targetId)).length;
    failed = failed.filter((one) => !isDone(one));
    const there = stranded.filter(({ id }) => (tries.get(id) ?? 0) < triesMax);
    if (there.length === 0) {
      // What could not be shut out of its disks can go on elsewhere once the host is off.
      const cut: { off: boolean } | null | undefined = await cutting;
      cutting = null;
      if (cut?.off) continue;
      await fencing;
      return partsOf({ ...ended, failed });
    }
    for (const { id, by } of there) {
      tries.set(id, (tries.get(id) ?? 0) + 1);
      if (by === 'instance.settle') leftOff.add(id);
    }
    const pieces = there.map(({ id, by }) => ({
      about: id,
      // When its turn comes it may be elsewhere.
      request: { type: by, targetId: id, input: {}, onlyIf: { field: 'hostId', is: hostId } },
    }));
    const count = { 'instance.restartElsewhere': 'restarted', 'instance.settle': 'stopped' } as const;
    const round = await runEach(step, pieces, {
      maxParallel,
      mayFail: true,
      onSuccess: ({ request }) => {
        ended[count[request.type as keyof typeof count]] += 1;
      },
    });
    failed = [...failed.filter(({ targetId }) => !there.some(({ id }) => id === targetId)), ...round.failed];
  }
});
