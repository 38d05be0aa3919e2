/** A failover works inside the hold of what gives way to it: whichever of the two ends first, the host is left as both have left it, and held by nobody. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { systemCaller } from '../../acceptance/caller.ts';
import { acceptAs } from '../../acceptance/own.ts';
import { hostMaintenance } from '../../activities/platform/hostMaintenance.ts';
import { hostPower } from '../../activities/platform/hostPower.ts';
import { operations } from '../../activities/platform/operation.ts';
import type { World } from '../../activities/world.ts';
import { noteRotated } from '../../database/credentials.ts';
import { readyOperations } from '../../database/queue.ts';
import { writeSecret } from '../../database/secrets.ts';
import { createRedfish } from '../../lab/redfish.ts';
import { kindOf } from '../../model/kinds.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene?.stop());
beforeEach(async () => {
  await scene.reset();
  await suffer('down');
});

const hostId = (): string => scene.ids.host ?? '';
const suffer = (health: string): Promise<unknown> =>
  scene.stage.query(
    `UPDATE "host" SET state = 'active', health = $2, connection = 'disconnected', fault = NULL WHERE id = $1`,
    [hostId(), health],
  );
async function accept(verb: string, body: object = {}, onBusy: 'queue' | 'fail' = 'queue'): Promise<string> {
  const what = { kind: kindOf('host'), verb, targetId: hostId(), body };
  const more = { requestId: 'test', onBusy, leftToDispatcher: true };
  return (JSON.parse((await acceptAs(scene.database, systemCaller(), what, more)).body) as { id: string }).id;
}
const of = () => operations({ database: scene.database } as World);
const problem = { code: 'HOST_FENCED', message: 'gone', step: null };
const ends = {
  succeeded: (operationId: string) => of().succeed.do({ operationId, steps: [], result: null }, {} as never),
  failed: (operationId: string) => of().fail.do({ operationId, steps: [], problem, cancelled: false }, {} as never),
} as const;
const begin = (operationId: string) => of().begin.do({ operationId }, {} as never);
/** What is at work on it begins. */
const entering = async (): Promise<string> => {
  const id = await accept('enterMaintenance', { instances: 'stop' });
  await begin(id);
  return id;
};
async function hostNow(): Promise<{ state: string; holder: string | null; locks: number }> {
  const { rows } = await scene.stage.query<{ state: string; holder: string | null; locks: number }>(
    `SELECT state, "currentOperationId" AS holder, (SELECT count(*)::int FROM "operationLock" WHERE "resourceId" = h.id) AS locks FROM "host" h WHERE id = $1`,
    [hostId()],
  );
  return rows[0] as { state: string; holder: string | null; locks: number };
}
const free = { holder: null, locks: 0 };

test.each([
  ['succeeded', 'succeeded', 'fenced'],
  ['failed', 'succeeded', 'fenced'],
  ['succeeded', 'failed', 'maintenance'],
  ['failed', 'failed', 'active'],
] as const)('what gives way has %s, then the failover has %s', async (first, second, state) => {
  const way = await entering();
  const failover = await accept('failover', {}, 'fail');
  expect(await hostNow()).toMatchObject({ state: 'fencing', holder: failover });
  await begin(failover);
  await ends[first](way);
  expect(await hostNow()).toEqual({ state: 'fencing', holder: failover, locks: 1 });
  await ends[second](failover);
  expect(await hostNow()).toEqual({ state, ...free });
});

test.each([
  ['succeeded', 'succeeded', 'fenced', 'fenced'],
  ['succeeded', 'failed', 'fenced', 'fenced'],
  ['failed', 'succeeded', 'enteringMaintenance', 'maintenance'],
  ['failed', 'failed', 'enteringMaintenance', 'active'],
] as const)('the failover has %s, then what gives way has %s', async (first, second, between, state) => {
  const way = await entering();
  const failover = await accept('failover', {}, 'fail');
  await begin(failover);
  await ends[first](failover);
  expect(await hostNow()).toEqual({ state: between, holder: way, locks: 1 });
  await ends[second](way);
  expect(await hostNow()).toEqual({ state, ...free });
});

test('both end at the same moment, and what gives way ends while the failover is accepted', async () => {
  for (let time = 0; time < 40; time++) {
    await suffer('down');
    const way = await entering();
    const [failover] = await Promise.all([accept('failover'), time % 2 === 0 ? ends.failed(way) : undefined]);
    await begin(failover);
    await Promise.all([ends.succeeded(failover), time % 2 === 0 ? undefined : ends.failed(way)]);
    expect(await hostNow()).toEqual({ state: 'fenced', ...free });
  }
});

test('what gives way ends while a second failover is accepted', async () => {
  for (let time = 0; time < 40; time++) {
    await suffer('down');
    const way = await entering();
    const first = await accept('failover');
    await begin(first);
    const [second] = await Promise.all([accept('failover'), ends.failed(way)]);
    expect((await readyOperations(scene.database)).operations).toEqual([]);
    await ends.succeeded(first);
    expect(await hostNow()).toMatchObject({ state: 'fenced', holder: null });
    expect(await begin(second)).toEqual({ refused: null });
    await ends.succeeded(second);
    expect(await hostNow()).toEqual({ state: 'fenced', ...free });
  }
});

test('what waits behind it waits behind its failover, too', async () => {
  const way = await entering();
  const waiting = await accept('connect');
  const failover = await accept('failover');
  const ready = async (): Promise<string[]> => (await readyOperations(scene.database)).operations.map(({ id }) => id);
  expect(await ready()).toEqual([failover]);
  await begin(failover);
  await ends.failed(way);
  expect(await ready()).toEqual([]);
  await ends.succeeded(failover);
  expect(await ready()).toEqual([waiting]);
  expect((await begin(waiting)).refused).toMatchObject({ code: 'INVALID_STATE' });
  expect(await hostNow()).toEqual({ state: 'fenced', ...free });
});

test('a second failover is refused, or waits for the first', async () => {
  const way = await entering();
  const first = await accept('failover');
  await expect(accept('failover', {}, 'fail')).rejects.toMatchObject({ code: 'RESOURCE_BUSY' });
  const second = await accept('failover');
  for (const id of [first, second]) {
    await begin(id);
    expect(await hostNow()).toMatchObject({ state: 'fencing', holder: id });
    await ends.succeeded(id);
  }
  await ends.failed(way);
  expect(await hostNow()).toEqual({ state: 'fenced', ...free });
});

test('what gives way takes the host from no failover that is at work', async () => {
  const way = await entering();
  const failover = await accept('failover');
  await begin(failover);
  const taken = scene.database.connections.query(`UPDATE "host" SET "currentOperationId" = $2 WHERE id = $1`, [
    hostId(),
    way,
  ]);
  await expect(taken).rejects.toMatchObject({ code: 'BL001' });
});

test('a fault of what gives way keeps no failover out', async () => {
  const way = await entering();
  await of().stuck.do({ operationId: way, steps: [], problem, committed: false }, {} as never);
  const failover = await accept('failover', {}, 'fail');
  await begin(failover);
  await ends.succeeded(failover);
  await ends.failed(way);
  expect(await hostNow()).toEqual({ state: 'fenced', ...free });
});

test.each(['succeeded', 'failed'] as const)(
  'a fault of what gives way is shown again once the failover has %s',
  async (end) => {
    const way = await entering();
    const failover = await accept('failover');
    await begin(failover);
    await of().stuck.do({ operationId: way, steps: [], problem, committed: false }, {} as never);
    const faultNow = async (): Promise<unknown> =>
      (await scene.stage.query(`SELECT fault FROM "host" WHERE id = $1`, [hostId()])).rows[0].fault;
    expect(await faultNow()).toBeNull();
    await ends[end](failover);
    expect(await faultNow()).toEqual({ ...problem, operationId: way });
    await ends.failed(way);
    expect(await faultNow()).toBeNull();
  },
);

test('a fault of what gives way keeps no second failover out', async () => {
  const way = await entering();
  const [first, second] = [await accept('failover'), await accept('failover')];
  await begin(first);
  await of().stuck.do({ operationId: way, steps: [], problem, committed: false }, {} as never);
  await ends.succeeded(first);
  expect(await begin(second)).toEqual({ refused: null });
  await ends.succeeded(second);
  await ends.failed(way);
  expect(await hostNow()).toEqual({ state: 'fenced', ...free });
});

test('a host that fails while it is taken back into use is not opened', async () => {
  await scene.stage.query(`UPDATE "host" SET state = 'maintenance' WHERE id = $1`, [hostId()]);
  const way = await accept('exitMaintenance');
  await begin(way);
  const failover = await accept('failover');
  await begin(failover);
  const reopen = () =>
    hostMaintenance({ database: scene.database } as World).reopen.do({ hostId: hostId() }, {
      operationId: way,
      undo: false,
    } as never);
  await expect(reopen()).rejects.toMatchObject({ type: 'HOST_FENCED' });
  await ends.succeeded(failover);
  await expect(reopen()).rejects.toMatchObject({ type: 'HOST_FENCED' });
  await ends.failed(way);
  expect(await hostNow()).toEqual({ state: 'fenced', ...free });
});

test('credentials that are taken while a failover works inside are known to be new', async () => {
  const way = await accept('rotateCredentials');
  await begin(way);
  await begin(await accept('failover'));
  await noteRotated(scene.database.connections, { hostId: hostId(), operationId: way });
  const { rows } = await scene.stage.query(`SELECT "credentialsRotatedAt" AS at FROM "host" WHERE id = $1`, [hostId()]);
  expect(rows[0].at).not.toBeNull();
});

test('its power is cut by the password that its BMC has taken from what gives way', async () => {
  let isOn = true;
  const machine = {
    isOn: () => isOn,
    on: () => {
      isOn = true;
    },
    off: () => {
      isOn = false;
    },
  };
  const { server } = await createRedfish({
    isUser: () => true,
    password: 'next',
    find: () => machine,
    names: () => ['one'],
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const bmc = { protocol: 'redfish', address: '127.0.0.1', port, user: 'u' };
    await scene.stage.query('UPDATE "host" SET bmc = $2 WHERE id = $1', [hostId(), JSON.stringify(bmc)]);
    const owner = { kind: 'host', id: hostId() };
    await writeSecret(scene.stage, owner, 'bmcPassword', 'before');
    await writeSecret(scene.stage, owner, 'nextBmcPassword', 'next');
    await begin(await accept('rotateCredentials'));
    const failover = await accept('failover');
    await begin(failover);
    await hostPower({
      database: scene.database,
      log: { warn: () => {}, error: () => {} },
    } as unknown as World).cutPower.do({ hostId: hostId() }, {
      operationId: failover,
      undo: false,
    } as never);
    expect(isOn).toBe(false);
  } finally {
    server.close();
  }
});

test('nothing gives way while it is not known that the host has failed, unless a person says so', async () => {
  await suffer('suspect');
  await entering();
  await expect(accept('failover', {}, 'fail')).rejects.toMatchObject({ code: 'RESOURCE_BUSY' });
  const failover = await accept('failover', { confirmDead: true }, 'fail');
  expect(await hostNow()).toMatchObject({ state: 'fencing', holder: failover });
});

test('what can go on without the host does not give way', async () => {
  await scene.stage.query(`UPDATE "host" SET bmc = '{"protocol":"redfish","address":"bmc","user":"u"}' WHERE id = $1`, [
    hostId(),
  ]);
  await begin(await accept('power', { command: 'off', force: true }));
  await expect(accept('failover', {}, 'fail')).rejects.toMatchObject({ code: 'RESOURCE_BUSY' });
});
