/**
 * A step comes late when its worker was suspended and another has done it since: its operation has ended, and what it held may be somebody else's.
 * Drawn from the steps themselves: all that run beside the workflow, done and undone.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { hypervisor } from '../../activities/compute/hypervisor.ts';
import { overtake, refuseLate } from '../../activities/holder.ts';
import { activitiesFor } from '../../activities/index.ts';
import type { StepContext } from '../../activities/step.ts';
import type { World } from '../../activities/world.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import * as areas from '../../workflows/steps.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
let activities: ReturnType<typeof activitiesFor>;
beforeAll(async () => {
  scene = await setScene();
  activities = activitiesFor({ database: scene.database } as World);
});
afterAll(() => scene?.stop());

/** The names of all steps that write records, and nothing else: those of which no host knows whether they come late. */
const names = (): string[] =>
  Object.keys(activities).filter((name) => {
    const [area = '', step = ''] = name.split('.');
    const refs = (areas as unknown as Record<string, Record<string, { where: string }>>)[area];
    return refs?.[step]?.where === 'record';
  });

/** What any of them could be told. */
const input = () => ({
  instanceId: scene.ids.instance,
  volumeId: scene.ids.attached,
  snapshotId: scene.ids.attachedSnapshot,
  imageId: scene.ids.image,
  addressGroupId: scene.ids.addressGroup,
  securityGroupId: scene.ids.securityGroup,
  firewallPolicyId: scene.ids.firewallPolicy,
  networkId: scene.ids.network,
  networkInterfaceId: scene.ids.networkInterface,
  after: {
    securityGroupIds: [],
    portSecurity: false,
    allowedPairs: [{ cidr: '10.9.0.0/16' }],
    linkUp: false,
    qos: { outBytesPerSec: 1_000_000 },
    name: 'after',
    description: '',
    labels: {},
    // Of a target group, and of a listener.
    targets: [{ networkInterfaceId: scene.ids.networkInterface, enabled: true }],
    algorithm: 'sourceHash',
    healthCheck: { intervalSeconds: 9, timeoutSeconds: 3, healthyCount: 1, unhealthyCount: 2 },
    targetGroupId: scene.ids.targetGroup,
    enabled: false,
  },
  change: { address: '10.250.0.8', secondaryAddresses: ['10.250.0.9'] },
  address: '10.250.0.8',
  secondaryAddresses: ['10.250.0.9'],
  patch: { linkUp: false },
  subnetId: scene.ids.subnet,
  options: { leaseSeconds: 600 },
  index: 3,
  alone: true,
  physicalNetworkId: scene.ids.physicalNetwork,
  clusterId: scene.ids.cluster,
  vpcId: scene.ids.vpc,
  routeTableId: scene.ids.routeTable,
  floatingIpId: scene.ids.floatingIp,
  portForwardId: scene.ids.portForward,
  targetGroupId: scene.ids.targetGroup,
  loadBalancerId: scene.ids.loadBalancer,
  listenerId: scene.ids.listener,
  allowedCidrs: ['10.0.0.0/8'],
  types: {
    before: { routerTypeId: null, hostIds: [] },
    after: { routerTypeId: scene.ids.routerType, hostIds: [scene.ids.otherHost] },
  },
  called: { before: 'old', after: 'new' },
  target: { networkInterfaceId: scene.ids.loose, fixedAddress: '10.250.0.8', vpcId: scene.ids.vpc },
  ways: [
    {
      kind: 'portForward',
      id: scene.ids.portForward,
      target: { networkInterfaceId: scene.ids.loose, fixedAddress: '10.250.0.8', vpcId: scene.ids.vpc },
    },
  ],
  uplinkId: scene.ids.wayOut,
  cidrs: ['10.0.0.0/9'],
  before: ['10.0.0.0/10'],
  routes: [{ cidr: '10.1.0.0/16', blackhole: true }],
  storagePoolId: scene.ids.storagePool,
  storageClusterId: scene.ids.storageCluster,
  backupStoreId: scene.ids.backupStore,
  hostId: scene.ids.otherHost,
  sourceHostId: scene.ids.host,
  targetHostId: scene.ids.otherHost,
  deviceIndex: 7,
  sizeGib: 9,
  fromSizeGib: 1,
  frozen: true,
  reason: 'crashed',
  askedAt: '2000-01-01T00:00:00Z',
  entries: [{ cidr: '10.0.0.0/8' }],
  rules: [{ direction: 'in', protocol: 'any' }],
  defaults: { in: 'allow', out: 'deny' },
  announced: { checksum: null, format: null },
  sha256: 'f'.repeat(64),
  format: 'qcow2',
  sizeBytes: 1,
  virtualSizeBytes: 1,
});

/** Free ones are taken and taken ones are freed, so each is tried on both. */
const targets = [
  () => input(),
  // What `after` is depends on the step: of an interface, or the gateway hosts of a VPC.
  () => ({ ...input(), volumeId: scene.ids.volume, snapshotId: scene.ids.snapshot, after: [scene.ids.otherHost] }),
];

const held = [
  'instance',
  'volume',
  'snapshot',
  'image',
  'addressGroup',
  'securityGroup',
  'firewallPolicy',
  'networkInterface',
  'subnet',
  'physicalNetwork',
  'vpc',
  'routeTable',
  'floatingIp',
  'portForward',
  'targetGroup',
  'loadBalancer',
  'listener',
  'host',
  'storagePool',
];

const tables = [...held, 'hostClaim', 'failedPlace', 'hostCapacity', 'secret', 'event'];

async function records(): Promise<unknown> {
  const parts = tables.map(
    (table) =>
      `SELECT '${table}' AS name, coalesce(jsonb_agg(to_jsonb(t) ORDER BY t::text), '[]') AS rows FROM "${table}" t`,
  );
  return (await scene.stage.query(parts.join(' UNION ALL '))).rows;
}

async function arrange(): Promise<void> {
  await scene.reset();
  await scene.stage.query(
    `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, $3, 1, 128)`,
    [scene.ids.instance, scene.ids.host, crypto.randomUUID()],
  );
  await scene.stage.query(`UPDATE "host" SET connection = 'disconnected', "deadAt" = now() WHERE id = $1`, [
    scene.ids.otherHost,
  ]);
}
beforeEach(arrange);

test('what is late is known: every area has steps that write records, or says where else they run', () => {
  expect(names().length).toBeGreaterThan(30);
  expect(names()).toEqual(expect.arrayContaining(['volumeRecords.freeSlot', 'placement.release', 'hosts.declareDead']));
});

const late = (name: string, operationId: string) => ({
  operationId,
  index: 0,
  committed: true,
  type: 'late',
  step: name.replace(/\.undo$/, ''),
  undo: name.endsWith('.undo'),
});

/** An operation at work that holds nothing. */
async function begun(undoing = false): Promise<string> {
  const operationId = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "createdAt", "updatedAt") VALUES ($1, $2, 'late', 'instance', $3, now(), now())`,
    [operationId, undoing ? 'rollingBack' : 'running', scene.ids.instance],
  );
  return operationId;
}

/** One that holds everything, and whose workflow is past its first turn. */
async function goneOn(undoing: boolean): Promise<string> {
  const operationId = await begun(undoing);
  for (const table of held) await scene.stage.query(`UPDATE "${table}" SET "currentOperationId" = $1`, [operationId]);
  await overtake(scene.database.connections, {
    ...late('any', operationId),
    undo: undoing,
    index: 1,
    turn: 1,
    since: 1,
  });
  return operationId;
}

test('a step that writes records changes nothing when its own operation has gone on without this try of it', async () => {
  const changed: string[] = [];
  for (const name of names())
    for (const [target, told] of targets.entries())
      for (const turn of [0, 1]) {
        await arrange();
        const operationId = await goneOn(name.endsWith('.undo'));
        const before = await records();
        await activities[name]?.(told(), { ...late(name, operationId), turn, since: turn }).catch(() => {});
        if (JSON.stringify(await records()) !== JSON.stringify(before)) changed.push(`${name} ${target} ${turn}`);
      }
  expect(changed.filter((one) => one.endsWith(' 0'))).toEqual([]);
  // In their turn they do write: so it was the turn that kept the others from it.
  expect(new Set(changed.map((one) => one.split(' ')[0])).size).toBeGreaterThan(20);
}, 240_000);

test('of two tries of a step that both run the newer one may go on, and no older one, whichever comes first', async () => {
  const operationId = await begun();
  const may = (attempt: number): Promise<boolean> =>
    refuseLate(scene.database.connections, { ...late('volumes.make', operationId), turn: 3, since: 3, attempt }).then(
      () => true,
      () => false,
    );
  expect(await may(1)).toBe(true);
  await overtake(scene.database.connections, { ...late('volumes.make', operationId), turn: 3, since: 3, attempt: 3 });
  expect([await may(1), await may(2), await may(3), await may(4)]).toEqual([false, false, true, true]);
  await overtake(scene.database.connections, { ...late('volumes.make', operationId), turn: 5, since: 5, attempt: 2 });
  expect(await may(4)).toBe(false);
});

test.each([
  ['free', false],
  ["another operation's", true],
])('a step that writes records changes nothing that is %s by then', async (_, isHeld) => {
  if (isHeld)
    for (const table of held) await scene.stage.query(`UPDATE "${table}" SET "currentOperationId" = gen_random_uuid()`);
  const before = await records();
  const changed: string[] = [];
  for (const name of names())
    for (const told of targets) {
      await activities[name]?.(told(), late(name, await begun())).catch(() => {});
      try {
        expect(await records()).toEqual(before);
      } catch (error) {
        changed.push(`${name}: ${(error as Error).message.slice(0, 2000)}`);
      }
    }
  expect(changed).toEqual([]);
});

test('what is being undone is not done any more, though the operation still holds it', async () => {
  const operationId = crypto.randomUUID();
  await scene.stage.query(`UPDATE "volume" SET "currentOperationId" = $2 WHERE id = $1`, [
    scene.ids.attached,
    operationId,
  ]);
  const free = (undo: boolean) =>
    activities[`volumeRecords.freeSlot${undo ? '.undo' : ''}`]?.(input(), {
      ...late('volumeRecords.freeSlot', operationId),
      undo,
    });
  const slot = async (): Promise<unknown> =>
    (await scene.stage.query(`SELECT "instanceId", "deviceIndex" FROM "volume" WHERE id = $1`, [scene.ids.attached]))
      .rows;
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "createdAt", "updatedAt") VALUES ($1, 'rollingBack', 'volume.detach', 'volume', $2, now(), now())`,
    [operationId, scene.ids.attached],
  );
  await expect(free(false)).rejects.toThrow('comes too late');
  expect(await slot()).toEqual([{ instanceId: scene.ids.instance, deviceIndex: 1 }]);
  await free(true);
  expect(await slot()).toEqual([{ instanceId: scene.ids.instance, deviceIndex: 7 }]);
});

test('a host that was given up because it did not answer is not asked by a try that comes late', async () => {
  const operationId = crypto.randomUUID();
  const asked: string[] = [];
  const host = (answers: boolean) => async () => {
    if (!answers) throw new AgentError('HOST_UNREACHABLE', 'away', true, 'h');
    return { call: async (name: string) => void asked.push(name) };
  };
  const boot = (answers: boolean) =>
    hypervisor({ database: scene.database, host: host(answers) } as unknown as World).boot;
  const place = { instanceId: String(scene.ids.instance), hostId: String(scene.ids.host) };
  const context = late('hypervisor.boot', operationId) as StepContext;

  await scene.stage.query(`UPDATE "volume" SET "poolId" = $1`, [scene.ids.storagePool]);
  await boot(false).undo?.(place, context);
  await expect(boot(true).do(place, context)).rejects.toThrow('has no place on host');
  expect(asked).toEqual([]);
  // Whoever has asked it for anything can not give it up while it does not answer.
  await scene.stage.query(`UPDATE "hostClaim" SET "reachedAt" = NULL`);
  await boot(true).do(place, context);
  expect(asked).toEqual(['domain.ensureDefined', 'domain.ensureRunning']);
  await expect(boot(false).undo?.(place, context)).rejects.toThrow('away');
});

test('what a saga writes of its own operation changes nothing once that has ended, or has gone on to another question', async () => {
  const operationId = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "createdAt", "updatedAt", "endedAt", error)
     VALUES ($1, 'succeeded', 'instance.stop', 'instance', $2, now(), now(), now(), '{"code":"INTERNAL","question":1}')`,
    [operationId, scene.ids.instance],
  );
  const record = async (): Promise<unknown> =>
    (await scene.stage.query(`SELECT * FROM "operation" WHERE id = $1`, [operationId])).rows;
  const before = [await record(), await records()];
  const problem = { code: 'INTERNAL', message: 'broken', step: null, stepIndex: 0, question: 1 };
  const told = { operationId, steps: [], problem, committed: true, rollingBack: false, skipped: null, result: null };
  const own = Object.keys(activities).filter((name) => name.startsWith('operations.') && !name.endsWith('.undo'));
  expect(own.length).toBeGreaterThan(5);
  const say = (name: string, more = {}) =>
    activities[name]?.({ ...told, ...more }, late(name, operationId) as never).catch(() => {});
  for (const name of own) {
    await say(name, { cancelled: false, question: 1 });
    expect([name, await record(), await records()]).toEqual([name, ...before]);
  }

  // Two questions: the first is answered, the second is not.
  const state = async (): Promise<unknown> =>
    (
      await scene.stage.query(`SELECT state, error->'question' AS question FROM "operation" WHERE id = $1`, [
        operationId,
      ])
    ).rows;
  await scene.stage.query(`UPDATE "operation" SET state = 'running', "endedAt" = NULL, error = NULL`);
  await say('operations.stuck');
  await say('operations.resume', { question: 1 });
  await say('operations.stuck');
  expect(await state()).toEqual([{ state: 'running', question: 1 }]);
  await say('operations.stuck', { problem: { ...problem, question: 2 } });
  await say('operations.resume', { question: 1 });
  expect(await state()).toEqual([{ state: 'stuck', question: 2 }]);
  await say('operations.resume', { question: 2 });
  expect(await state()).toEqual([{ state: 'running', question: 2 }]);
});

test.each([
  ['running', false, { do: true, undo: true }],
  ['rollingBack', false, { do: false, undo: true }],
  ['stuck', false, { do: true, undo: true }],
  ['failed', true, { do: false, undo: false }],
  ['succeeded', true, { do: false, undo: false }],
])('in OVN a step of an operation that is %s changes what its turn is for', async (state, ended, may) => {
  const operationId = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, "endedAt", type, "targetKind", "targetId", "createdAt", "updatedAt") VALUES ($1, $2, $3, 'instance.create', 'instance', $4, now(), now())`,
    [operationId, state, ended ? new Date().toISOString() : null, scene.ids.instance],
  );
  const changes = async (undo: boolean): Promise<boolean> => {
    const context = { ...late('networkInterfaces.plug', operationId), undo };
    return refuseLate(scene.database.connections, context).then(
      () => true,
      () => false,
    );
  };
  expect({ do: await changes(false), undo: await changes(true) }).toEqual(may);
});
