/** What is said to an operation under way: a cancel of a stop, a stop by force while another asks nicely, an answer to one that is stuck. */
import { afterEach, expect, inject, test } from 'vitest';
import type { OperationView } from '../../lab/api.ts';
import { instanceBody } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { follower, inStep, refusal } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';
import { realityOf, simulatorInventory } from '../support/simulated.ts';
import { changes } from '../support/world.ts';

const address = inject('cloud');
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

const sim = (method: string, path: string, body?: unknown): Promise<Response> =>
  fetch(`${address.simulatorUrl}/_sim/${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
const guestsTake = (ms: number): Promise<unknown> => sim('PUT', 'shutDown', { ms });

afterEach(async () => {
  await guestsTake(10);
  await sim('DELETE', 'rules');
  await setRules(admin, []);
});

const look = (id: string): Promise<OperationView> => admin.call('GET', `/v1/operations/${id}`);
const stop = (id: string, body: unknown): Promise<OperationView> =>
  tenant.call('POST', `/v1/instances/${id}/actions/stop`, body);
const ask = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  admin.call('POST', `/v1/operations/${id}/actions/${verb}`, body);

const until = follower(admin);
const isAsking = inStep('hypervisor.shutDown');

const runsOn = async (id: string): Promise<string[] | undefined> =>
  realityOf(await simulatorInventory(address.simulatorUrl)).running.get(id);

test('a stop that waits for a guest can be cancelled, and the guest runs on', async () => {
  const { id } = await deploy('deaf');
  const before = await picture();
  await guestsTake(3_600_000);
  const asking = await stop(id, { mode: 'soft', timeoutSeconds: 600 });
  await until(asking.id, isAsking);
  await tenant.call('POST', `/v1/operations/${asking.id}/actions/cancel`);
  expect((await admin.settled(asking.id)).state).toBe('cancelled');
  expect(changes(before, await picture())).toEqual([]);
  await removeInstance(id);
});

test('a stop by force does not wait until the guest has been asked nicely', async () => {
  const { id } = await deploy('deafer');
  await guestsTake(3_600_000);
  const asking = await stop(id, { mode: 'soft', timeoutSeconds: 600 });
  await until(asking.id, isAsking);
  const queued = await stop(id, { mode: 'softThenForce', timeoutSeconds: 600 });
  const forced = await stop(id, { mode: 'force' });
  expect((await admin.settled(forced.id)).state).toBe('succeeded');
  expect([(await look(asking.id)).state, (await look(queued.id)).state]).toEqual(['cancelled', 'cancelled']);
  expect((await tenant.call('GET', `/v1/instances/${id}`)).state).toBe('stopped');
  expect(await runsOn(id)).toBeUndefined();
  expect(await wrong()).toEqual([]);
  await removeInstance(id);
});

test('an answer is for the step that it names, and who waits afterwards waits for the end', async () => {
  const before = await picture();
  const targetId = crypto.randomUUID();
  const broken = (call: string): Promise<Response> =>
    sim('POST', 'rules', {
      call,
      when: 'before',
      action: 'fail',
      problem: { code: 'INTERNAL', message: 'broken', retryable: false },
    });
  await setRules(admin, [{ targetId, step: 'hypervisor.boot', fault: 'failAfter', times: 1 }]);
  const { id: first } = (await (await broken('domain.ensureAbsent')).json()) as { id: string };
  const { id: second } = (await (await broken('rbd.ensureImageAbsent')).json()) as { id: string };
  const { id } = await tenant.call<OperationView>(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'twice stuck', { requestedId: targetId }),
  );
  const inBoot = await admin.settled(id);
  expect([inBoot.state, inBoot.error?.step]).toEqual(['stuck', 'hypervisor.boot']);
  const boot = { step: inBoot.error?.stepIndex };

  await sim('DELETE', `rules/${first}`);
  // The operation goes on before the answer comes.
  expect((await ask(id, 'retry', boot)).state).not.toBe('stuck');
  const inVolumes = await admin.settled(id);
  expect([inVolumes.state, inVolumes.error?.step]).toEqual(['stuck', 'volumes.make']);
  const late = { ...boot, reason: 'seen when it was stuck in the other step' };
  expect(await refusal(ask(id, 'skipStep', late))).toBe('409 INVALID_STATE');
  expect(await refusal(ask(id, 'retry', boot))).toBe('409 INVALID_STATE');
  expect((await look(id)).state).toBe('stuck');

  await sim('DELETE', `rules/${second}`);
  await ask(id, 'retry', { step: inVolumes.error?.stepIndex });
  const ended = await admin.call<OperationView>('GET', `/v1/operations/${id}?waitSeconds=60`);
  expect(ended.state).toBe('failed');
  expect(ended.steps.map(({ state }) => state)).toEqual(ended.steps.map(() => 'undone'));
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
}, 180_000);

test('of several answers at once one counts', async () => {
  const targetId = crypto.randomUUID();
  await setRules(admin, [{ targetId, step: 'hypervisor.boot', fault: 'undoFails', times: 4 }]);
  const { id } = await tenant.call<OperationView>(
    'POST',
    '/v1/instances',
    instanceBody(cloud, 'asked', { requestedId: targetId }),
  );
  expect((await admin.settled(id)).state).toBe('stuck');
  const answers = await Promise.all(Array.from({ length: 5 }, () => refusal(ask(id, 'retry'))));
  expect(answers.sort()).toEqual([...Array(4).fill('409 INVALID_STATE'), 'accepted']);
  expect((await admin.settled(id)).state).toBe('failed');
}, 180_000);
