import { expect, test } from 'vitest';
import { descriptions } from '../../../activities/descriptions.ts';
import { stepsOf } from '../../../database/operationTypes.ts';
import { steps } from '../../../generated/steps.ts';
import { cascade } from '../../../model/cascade.ts';
import type { Action, StepDescription } from '../../../model/kind.ts';
import { allKinds } from '../../../model/kinds.ts';

const told = ({ name, system, undo, when }: StepDescription): string =>
  [`  ${name}: ${system}`, ...(undo ? [`undo: ${undo}`] : []), ...(when ? [`when ${when}`] : [])].join('; ');

const story = (type: string, action: Action): string =>
  [
    type + (action.pointOfNoReturn ? `, forward only from ${action.pointOfNoReturn}` : ''),
    ...stepsOf(action).map(told),
    '',
  ].join('\n');

test('what is told of steps is what they say of themselves', () => {
  expect(steps).toEqual(descriptions);
});

/** Changed on purpose: `npm test -- unit test/unit/activities/descriptions.test.ts -u` writes it anew, and its reader looks at what is different. */
test('what callers are told of the steps of each action, and of what undoes them, is what stands here', async () => {
  const types = allKinds.flatMap(({ name, actions }) =>
    Object.entries(actions)
      .filter(([, { mode, on }]) => mode === 'operation' && on !== 'delete')
      .map(([verb, action]) => story(`${name}.${verb}`, action)),
  );
  await expect([...types, story('cascade', cascade)].join('\n')).toMatchFileSnapshot('descriptions.txt');
});

test('what nobody can take back any more has no undo', () => {
  const steps = ['instances.locate', 'networkInterfaces.plug', 'hypervisor.boot'];
  const undos = (pointOfNoReturn?: string) =>
    stepsOf({ summary: '', mode: 'operation', steps, ...(pointOfNoReturn ? { pointOfNoReturn } : {}) }).map(
      ({ undo }) => undo,
    );
  expect(undos()).toEqual([null, 'delete ports', 'force off, undefine']);
  expect(undos('hypervisor.boot')).toEqual([null, 'delete ports', null]);
});

test('a step that nothing does can not be told', () => {
  expect(() => stepsOf({ summary: '', mode: 'operation', steps: ['volumes.shrink'] })).toThrow('volumes.shrink');
});
