/** Whoever overtakes a try of a step says so, and does not go around a host before nothing of the older try can be acted on any more. */
import { expect, test } from 'vitest';
import type { StepContext } from '../../../activities/step.ts';
import { MESSAGE_SECONDS } from '../../../host-agent/stamp.ts';
import { begin, untilNothingIsUnderWay } from '../../../workers/speaking.ts';

const context: StepContext = {
  index: 1,
  committed: false,
  turn: 1,
  since: 1,
  attempt: 2,
  operationId: crypto.randomUUID(),
  type: 't',
  step: 's',
  undo: false,
};

const speakerOf = async (mayHaveOlder: boolean, around: boolean) => {
  const said: string[] = [];
  const slept: number[] = [];
  const database = {
    query: async ({ text }: { text: string }) => {
      said.push(/belay_turn/.test(text) ? 'overtakes' : 'goes around');
      return { rows: [{ around }] } as never;
    },
  };
  const speaker = await begin(database, context, {
    stamp: null,
    mayHaveOlder,
    sleep: async (ms) => void slept.push(ms),
  });
  return { database, speaker, said, slept };
};

test.each([
  ['a first try waits for nobody', false, false, false, [], false],
  ['a first try that goes around says so', false, false, true, ['goes around'], false],
  ['a later try through the same host waits for nobody', true, false, false, ['overtakes'], false],
  ['a later try that goes around waits', true, false, true, ['overtakes', 'goes around'], true],
  ['a later try waits where an older one went around', true, true, false, ['overtakes'], true],
])('%s', async (_, mayHaveOlder, wentAround, isAround, words, waits) => {
  const { database, speaker, said, slept } = await speakerOf(mayHaveOlder, wentAround);
  await untilNothingIsUnderWay(database, speaker, isAround);
  expect(said).toEqual(words);
  expect(slept.length > 0).toBe(waits);
  for (const ms of slept) expect(ms).toBeGreaterThan(MESSAGE_SECONDS * 1_000);
});
