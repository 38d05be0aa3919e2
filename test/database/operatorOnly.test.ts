/** What is for operators is refused when somebody else asks to have it done to many, or again and again, and not by each of its runs. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Caller, systemCaller } from '../../acceptance/caller.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
  await scene.reset();
}, 60_000);
afterAll(() => scene?.stop());

/** Who may do everything in one project. */
const ofProject = (): Caller => ({
  ...systemCaller(),
  grants: systemCaller().grants.map((grant) => ({ ...grant, targetKind: 'project', targetId: wellKnown.rootProject })),
  reach: new Map([
    [`project/${wellKnown.rootProject}`, { accounts: new Set(), projects: new Set([wellKnown.rootProject]) }],
  ]) as unknown as Caller['reach'],
});

const bodies = (action: string) => ({
  'operation.runMany': { action, targets: { ids: [scene.ids.instance] } },
  'schedule.create': {
    name: 'again and again',
    projectId: wellKnown.rootProject,
    cron: '@daily',
    action,
    targets: { ids: [scene.ids.instance] },
  },
});

test.each(['operation.runMany', 'schedule.create'] as const)('%s', async (type) => {
  const ask = (action: string, caller: Caller) =>
    scene.accept(type, { body: bodies(action)[type], caller, dryRun: true });
  const forbidden = { code: 'FORBIDDEN', message: 'instance.settle is for operators' };
  await expect(ask('instance.settle', ofProject())).rejects.toMatchObject(forbidden);
  expect((await ask('instance.stop', ofProject())).status).toBeLessThan(300);
  expect((await ask('instance.settle', systemCaller())).status).toBeLessThan(300);
});
