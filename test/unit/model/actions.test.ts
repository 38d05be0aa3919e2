import { expect, test } from 'vitest';
import { filled } from '../../../model/actions.ts';
import { cascade } from '../../../model/cascade.ts';
import { kinds } from '../../../model/kinds.ts';
import { hosts, volumeRecords, volumes } from '../../../workflows/steps.ts';
import { workflow } from '../../../workflows/workflow.ts';

test('what is left out of an input is what the model says: its default, a flag false, anything else null', () => {
  const { stop, migrate } = kinds.instance.actions;
  expect(filled(stop, { timeoutSeconds: 5 })).toEqual({ mode: 'softThenForce', timeoutSeconds: 5 });
  expect(filled(migrate, {})).toEqual({ hostId: null, bandwidthBytesPerSec: null });
  expect(filled(cascade, { expunge: true })).toEqual({ cascade: false, expunge: true });
  expect(filled(kinds.instance.actions.start, { surplus: 1 })).toEqual({});
});

/** Each of these is an error of the compiler; it is one as well when such a line compiles. */
const refused = [
  workflow('volume.delete', async (step, { volumeId }) => {
    await step(volumes.trash, { hostId: '', volumeIds: [volumeId] });
    // @ts-expect-error a step that the action does not declare
    await step(volumeRecords.reserveSlot, { volumeId, instanceId: '' });
    // @ts-expect-error a point of no return where the action has none
    step.commit();
    // @ts-expect-error an operation where the action declares none
    await step.child({ type: 'volume.detach', targetId: volumeId });
  }),
  // @ts-expect-error an input that the action does not take
  workflow('volume.resize', async (_step, { growth }) => growth),
  // @ts-expect-error an action that is none
  workflow('volume.shrink', async () => {}),
  // @ts-expect-error one that is no operation
  workflow('volume.update', async () => {}),
  // @ts-expect-error a default is never missing, and what has none may be null
  workflow('instance.migrate', async (_step, { hostId }): Promise<string> => hostId),
  workflow('instance.stop', async (_step, { timeoutSeconds }): Promise<number> => timeoutSeconds),
  workflow('host.create', async (step, { hostId }) => step.earlier(hosts.probe, { hostId })),
];

test('what the compiler refuses was compiled', () =>
  expect(refused.every((one) => typeof one === 'function')).toBe(true));
