/** A worker that dies in a step, with the step's work done and nobody told: another attempt finds it done, and the operation succeeds. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OperationView } from '../../lab/api.ts';
import { inBatches, instanceBody } from '../../lab/provision.ts';
import type { FaultRule } from '../../workers/faults.ts';
import { joinCloud, startSimulatedCloud } from '../support/cloud.ts';
import { failing } from '../support/failing.ts';
import { describe as inWords } from '../support/persistent.ts';
import { casesOf, runCases, type Subject, setRules, table } from '../support/rollback.ts';
import { firstVpc, plant } from '../support/tree.ts';
import { changes } from '../support/world.ts';

const { address, stop } = await startSimulatedCloud({ hosts: 8, faultInjection: true });
afterAll(stop, 120_000);
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

const destroy = (id: string): Promise<unknown> => tenant.done('DELETE', `/v1/instances/${id}`);
const act = (verb: string, prepared: (id: string) => Promise<unknown>) => async (name: string) => {
  const { id } = await deploy(name);
  await prepared(id);
  return { targetId: id, method: 'POST', path: `/v1/instances/${id}/actions/${verb}`, body: {} };
};

const subjects: Subject[] = [
  {
    type: 'instance.create',
    prepare: async (name) => {
      const requestedId = crypto.randomUUID();
      const body = instanceBody(cloud, name, { requestedId });
      return { targetId: requestedId, method: 'POST', path: '/v1/instances', body };
    },
    clean: removeInstance,
    absent: ['images.cache', 'placement.vacate'],
  },
  { type: 'instance.migrate', prepare: act('migrate', async () => {}), clean: removeInstance },
  {
    type: 'instance.expunge',
    prepare: act('expunge', destroy),
    clean: async () => {},
    absent: ['volumeRecords.keepRoot'],
  },
];

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => {
  await removeInstance((await deploy('first')).id);
  await firstVpc(cloud);
});

/** A fault rule marks each death beforehand: `die/<step>/do`. */
async function deaths(operationIds: string[]): Promise<string[]> {
  const client = new pg.Client({ connectionString: address.databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ step: string }>(
      `SELECT split_part(key, '/', 2) AS step FROM "idempotencyKey" WHERE "callerId" = ANY($1::uuid[]) AND key LIKE 'die/%' ORDER BY 1`,
      [operationIds],
    );
    return rows.map(({ step }) => step);
  } finally {
    await client.end();
  }
}

test('a delete with all that hangs on it succeeds although its worker dies where children begin', async () => {
  const before = await picture();
  const { project } = await plant(admin, cloud);
  const steps = ['instance.stop', 'volume.detach', 'instance.expunge', 'project.delete'];
  await setRules(
    admin,
    steps.map((step) => ({ operationType: 'project.cascade', step, fault: 'die' })),
  );
  const { id } = await admin.call<OperationView>('DELETE', `/v1/projects/${project.id}?cascade=true&expunge=true`);
  const ended = await admin.settled(id);
  await setRules(admin, []);
  expect(inWords(ended)).toContain(' succeeded');
  expect(await deaths([id])).toEqual([...steps].sort());
  expect(changes(before, await picture())).toEqual([]);
  expect(await wrong()).toEqual([]);
}, 600_000);

test('a failover ends although its worker dies in each of its steps, and its instance runs once', async () => {
  const before = await picture();
  const one = await failing(address, { admin, cloud })(100);
  const instanceId = await one.deploy('once');
  await one.fail();
  const rulesOf = (operationType: string, absent: string[]): FaultRule[] =>
    casesOf(operationType, absent, ['die']).map(({ step, fault }) => ({ operationType, step, fault }));
  const rules = [
    ...rulesOf('host.failover', ['restart']),
    { operationType: 'host.failover', step: 'instance.restartElsewhere', fault: 'die' } as const,
    ...rulesOf('instance.restartElsewhere', []),
  ];
  await setRules(admin, rules);
  const ended = await one.done('failover');
  await setRules(admin, []);
  expect(inWords(ended)).toContain(' succeeded');
  expect(ended.result).toMatchObject({ restarted: 1, failed: [] });
  const child = ended.steps.find(({ name }) => name === 'instance.restartElsewhere') as { operationId?: string };
  expect(await deaths([ended.id, String(child.operationId)])).toEqual(rules.map(({ step }) => step).sort());
  const { state, hostId } = await admin.call('GET', `/v1/instances/${instanceId}`);
  expect([state, hostId === one.id]).toEqual(['running', false]);
  expect(await wrong()).toEqual([]);
  await removeInstance(instanceId);
  await one.remove();
  expect(changes(before, await picture())).toEqual([]);
}, 600_000);

for (const subject of subjects)
  test(`${subject.type} succeeds although its worker dies in a step`, async () => {
    const before = await picture();
    const cases = casesOf(subject.type, subject.absent, ['die']);
    const verdicts = await runCases({ admin, tenant, databaseUrl: address.databaseUrl }, subject, cases, {
      before: async () => {},
    });
    console.log(`\n${table(subject.type, verdicts)}`);
    expect(
      verdicts.flatMap(({ step, problem, operation }) =>
        problem ? [`${step}: ${problem}; ${inWords(operation)}`] : [],
      ),
    ).toEqual([]);
    expect(await deaths(verdicts.map(({ operation }) => operation.id))).toEqual(cases.map(({ step }) => step).sort());
    expect(await wrong()).toEqual([]);
    await inBatches(verdicts, 8, ({ targetId }) => subject.clean(targetId));
    expect(await wrong()).toEqual([]);
    expect(changes(before, await picture())).toEqual([]);
  }, 600_000);
