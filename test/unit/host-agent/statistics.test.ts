import { expect, test } from 'vitest';
import { guestStatistics } from '../../../host-agent/agent/facts.ts';
import type { Libvirt } from '../../../host-agent/agent/libvirt.ts';

/** libvirt of which each question is answered by the next of `answers`. */
function asked(...answers: Promise<[]>[]): { libvirt: Pick<Libvirt, 'withOwnSession'>; questions(): number } {
  let questions = 0;
  const withOwnSession = async (): Promise<never> => (await answers[questions++]) as never;
  return { libvirt: { withOwnSession }, questions: () => questions };
}

test('a hypervisor that hangs is asked once, however often its host is, and again when it has answered', async () => {
  let answer: (guests: []) => void = () => {};
  const hanging = new Promise<[]>((resolve) => {
    answer = resolve;
  });
  const { libvirt, questions } = asked(hanging, Promise.resolve([]));
  const statistics = guestStatistics(libvirt, 10);
  expect(await Promise.all([statistics(), statistics()])).toEqual([null, null]);
  expect(await statistics()).toBeNull();
  expect(questions()).toBe(1);
  answer([]);
  await hanging;
  expect(await statistics()).toEqual([]);
  await expect.poll(() => statistics().then(questions)).toBe(2);
});

test('one that is away has said nothing', async () => {
  const { libvirt } = asked(Promise.reject(new Error('libvirt does not answer')));
  expect(await guestStatistics(libvirt)()).toBeNull();
});
