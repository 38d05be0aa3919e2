/** A workflow that changes while runs of it are under way: they go on under the new code as they began, and new ones run as it says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, OperationView } from '../../lab/api.ts';
import type { Cloud } from '../../lab/provision.ts';
import { type JoinedCloud, joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';

const directory = mkdtempSync(join(tmpdir(), 'belay-changed-'));
/** What control workers run when they start. */
const bundle = join(directory, 'workflows.js');
async function install(entry: string): Promise<void> {
  const workflowsPath = fileURLToPath(new URL(entry, import.meta.url));
  writeFileSync(bundle, (await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('ERROR') })).code);
}

let running: SimulatedCloud;
let joined: JoinedCloud;
let admin: Api;
let cloud: Omit<Cloud, 'tenant'>;

beforeAll(async () => {
  await install('../support/before/index.ts');
  running = await startSimulatedCloud({
    hosts: 2,
    faultInjection: true,
    environment: { BELAY_WORKFLOW_BUNDLE: bundle },
  });
  joined = joinCloud(running.address);
  ({ admin, cloud } = joined);
}, 300_000);
afterAll(async () => {
  await running?.stop();
  rmSync(directory, { recursive: true, force: true });
}, 120_000);

const add = (number: number): Promise<OperationView> =>
  admin.call('POST', '/v1/hosts', {
    name: `host-${number}`,
    clusterId: cloud.cluster.id,
    address: `sim://${new URL(running.address.simulatorUrl).host}/host-${number}`,
  });
const stepsOf = ({ steps }: OperationView): string[] => steps.map(({ name }) => name.replace('hosts.', ''));
const nine = [
  'reach',
  'authorizeKey',
  'installPackages',
  'installAgent',
  'configureHypervisor',
  'configureSwitch',
  'connectStorage',
  'probe',
  'enable',
];

test('what began before goes on, or is undone, as it began; what begins afterwards is as the new code says', async () => {
  const before = await joined.picture();
  const until = follower(admin);
  const letGo = await hold(running.address.simulatorUrl, 'hypervisor.ensureConfigured');
  const [good, bad] = await Promise.all([add(10), add(11)]);
  await setRules(admin, [
    { operationType: 'host.create', targetId: bad.targetId, step: 'hosts.probe', fault: 'failAfter' },
  ]);
  for (const { id } of [good, bad]) await until(id, inStep('hosts.configureHypervisor'));
  await install('../../workflows/index.ts');
  await running.stack.kill('control');
  await letGo();
  const [ended, undone] = await Promise.all([admin.settled(good.id), admin.settled(bad.id)]);
  expect([ended.state, ended.error, stepsOf(ended)]).toEqual(['succeeded', null, nine]);
  expect([undone.state, undone.error?.step, stepsOf(undone)]).toEqual(['failed', 'hosts.probe', nine.slice(0, -1)]);
  expect(new Set(undone.steps.map(({ state }) => state))).toEqual(new Set(['undone']));
  await setRules(admin, []);
  const next = await admin.settled((await add(12)).id);
  expect([next.state, stepsOf(next)]).toEqual(['succeeded', ['reach', 'reachBmc', 'install', 'configure', 'enable']]);
  for (const { targetId } of [ended, next]) await admin.done('DELETE', `/v1/hosts/${targetId}`);
  expect(await joined.picture()).toEqual(before);
  expect(await joined.wrong()).toEqual([]);
}, 300_000);
