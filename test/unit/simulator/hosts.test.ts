import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostEvent } from '../../../host-agent/protocol.ts';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import {
  ask,
  cloud,
  domainSpec,
  firstStamp,
  fromNow,
  headersOf,
  idOf,
  image,
  migrationAddress,
  pool,
  putTask,
  runDomain,
  runTask,
  storageClusterId,
  tags,
} from './cloud.ts';

const a = idOf('a');

let simulator: Simulator;
beforeEach(async () => {
  simulator = await cloud();
});
afterEach(() => simulator.stop());

const disk = (name: string) => ({
  source: { type: 'rbd' as const, ...image(name) },
  volumeId: idOf(name),
  readOnly: false,
  boot: false,
});

describe('an ensure', () => {
  test('may arrive twice and leaves the same world', async () => {
    await runDomain(simulator, 'host-0', a);
    const once = simulator.inventory();
    await runDomain(simulator, 'host-0', a);
    expect(simulator.inventory()).toEqual(once);
  });

  test('is undone to exactly what was before, and the undo may come when nothing was done', async () => {
    const before = simulator.inventory();
    const undo = async () => {
      await ask(simulator, 'host-0', 'domain.ensureAbsent', { id: a });
      await ask(simulator, 'host-0', 'rbd.ensureImageAbsent', {
        ...image(`volume-${a}`),
        onlyOperation: 'operation-1',
      });
    };
    await undo();
    await runDomain(simulator, 'host-0', a);
    expect(simulator.inventory()).not.toEqual(before);
    await undo();
    await undo();
    expect(simulator.inventory()).toEqual(before);
  });

  test('refuses a foreign object under its name and touches nothing', async () => {
    await runDomain(simulator, 'host-0', a);
    const before = simulator.inventory();
    const foreign = { code: 'NAME_IN_USE' };
    await expect(
      ask(simulator, 'host-1', 'rbd.ensureImage', { ...image(`volume-${a}`), sizeGib: 5, tags: tags('other') }),
    ).rejects.toMatchObject(foreign);
    const spec = domainSpec(a, { tags: tags('other'), vcpus: 1 });
    await expect(ask(simulator, 'host-0', 'domain.ensureDefined', spec)).rejects.toMatchObject(foreign);
    expect(simulator.inventory()).toEqual(before);
  });

  test('of a removal with `onlyOperation` leaves the image of another operation alone', async () => {
    await ask(simulator, 'host-0', 'rbd.ensureImage', { ...image('v'), sizeGib: 1, tags: tags('v', 'first') });
    await ask(simulator, 'host-0', 'rbd.ensureImageAbsent', { ...image('v'), onlyOperation: 'second' });
    expect((await ask(simulator, 'host-0', 'rbd.inventory', { storageClusterId, pool })).images).toHaveLength(1);
  });
});

describe('a domain', () => {
  test('is neither defined nor started without its images', async () => {
    const refused = { code: 'PRECONDITION_FAILED' };
    await expect(ask(simulator, 'host-0', 'domain.ensureDefined', domainSpec(a))).rejects.toMatchObject(refused);
    await runDomain(simulator, 'host-0', a);
    await ask(simulator, 'host-0', 'domain.ensureOff', { id: a });
    await ask(simulator, 'host-0', 'rbd.ensureImageAbsent', image(`volume-${a}`));
    await expect(ask(simulator, 'host-0', 'domain.ensureRunning', { id: a })).rejects.toMatchObject(refused);
  });

  test('never runs on two hosts', async () => {
    const spec = await runDomain(simulator, 'host-0', a);
    await expect(ask(simulator, 'host-1', 'domain.ensureDefined', spec)).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
  });

  test('does not start where memory is short', async () => {
    await runDomain(simulator, 'host-0', a);
    await ask(simulator, 'host-0', 'domain.ensureOff', { id: a });
    await ask(simulator, 'host-0', 'domain.ensureDefined', domainSpec(a, { memoryMib: 262_145 }));
    await expect(ask(simulator, 'host-0', 'domain.ensureRunning', { id: a })).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
    });
  });

  test('watches its image while it runs, and its image can not go meanwhile', async () => {
    await runDomain(simulator, 'host-0', a);
    expect((await ask(simulator, 'host-1', 'rbd.watchers', image(`volume-${a}`))).addresses).toHaveLength(1);
    await expect(ask(simulator, 'host-1', 'rbd.ensureImageAbsent', image(`volume-${a}`))).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
    expect((await runTask(simulator, 'host-0', 'domain.shutDown', { id: a, timeoutSeconds: 5 })).state).toBe(
      'succeeded',
    );
    expect((await ask(simulator, 'host-1', 'rbd.watchers', image(`volume-${a}`))).addresses).toHaveLength(0);
  });

  test('takes and releases disks while it runs, and grows them', async () => {
    await runDomain(simulator, 'host-0', a);
    await ask(simulator, 'host-0', 'rbd.ensureImage', { ...image('data'), sizeGib: 1, tags: tags('data') });
    await ask(simulator, 'host-0', 'domain.ensureDisk', { id: a, disk: disk('data') });
    await ask(simulator, 'host-0', 'domain.growDisk', { id: a, volumeId: idOf('data'), sizeGib: 3 });
    const { images } = await ask(simulator, 'host-0', 'rbd.inventory', { storageClusterId, pool });
    expect(images.find(({ name }) => name === 'data')).toMatchObject({ sizeBytes: 3 * 2 ** 30, watchers: 1 });
    await ask(simulator, 'host-0', 'domain.ensureDiskAbsent', { id: a, volumeId: idOf('data'), mustBeThere: true });
    expect((await ask(simulator, 'host-0', 'rbd.watchers', image('data'))).addresses).toEqual([]);
  });

  test('says READY on its serial log, to readers that follow too', async () => {
    await runDomain(simulator, 'host-0', a);
    const response = await fetch(`${simulator.url}/host-0/v1/domains/${a}/serial?follow=true`);
    let text = '';
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString();
      if (text.includes(`READY name-of-${a}`)) break;
    }
    expect((await ask(simulator, 'host-0', 'domain.serialLog', { id: a, bytes: 1000 })).text).toBe(text);
  });
});

test('a stream of events begins with every domain, then tells what guests do by themselves', async () => {
  await runDomain(simulator, 'host-0', a);
  const response = await fetch(`${simulator.url}/host-0/v1/events`);
  const events: HostEvent[] = [];
  let text = '';
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString();
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    events.push(...lines.map((line) => JSON.parse(line) as HostEvent));
    if (events.length === 1) simulator.guestPowerOff('host-0', a);
    if (events.length === 2) break;
  }
  const [hello, stopped] = events;
  expect(hello).toMatchObject({ type: 'hello', domains: [{ id: a, state: 'running' }] });
  expect(stopped).toMatchObject({ type: 'domain.stopped', domainId: a, reason: 'shutdown', bootId: hello?.bootId });
  expect(stopped?.sequence).toBe((hello?.sequence ?? 0) + 1);
});

test('a crashed host answers nothing, and comes back with its definitions but no running domain', async () => {
  const spec = await runDomain(simulator, 'host-0', a);
  simulator.crashHost('host-0');
  await expect(ask(simulator, 'host-0', 'domain.status', { id: a })).rejects.toThrow('fetch failed');
  await ask(simulator, 'host-1', 'domain.ensureDefined', spec);
  await ask(simulator, 'host-1', 'domain.ensureRunning', { id: a });
  simulator.healHost('host-0');
  expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'off' });
  expect(await ask(simulator, 'host-1', 'domain.status', { id: a })).toMatchObject({ state: 'running' });
});

test('a partitioned host answers nothing while its domains run on', async () => {
  await runDomain(simulator, 'host-0', a);
  simulator.partitionHost('host-0');
  await expect(ask(simulator, 'host-0', 'domain.status', { id: a })).rejects.toThrow('fetch failed');
  simulator.healHost('host-0');
  expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'running' });
});

test('only declared hosts answer', async () => {
  await expect(ask(simulator, 'host-3', 'host.facts', {})).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  expect((await fetch(`${simulator.url}/other/v1/health`)).status).toBe(404);
});

describe('a live migration', () => {
  const move = { id: a, cephUsers: {}, bandwidthBytesPerSec: null, autoConverge: false };

  test('ends with the domain on the target only', async () => {
    await runDomain(simulator, 'host-0', a);
    const task = await runTask(simulator, 'host-0', 'domain.migrate', {
      ...move,
      targetAddress: migrationAddress(1),
    });
    expect(task).toMatchObject({ state: 'succeeded', progress: 100 });
    expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'absent' });
    expect(await ask(simulator, 'host-1', 'domain.status', { id: a })).toEqual({
      state: 'running',
      reason: 'migrated',
    });
    expect((await ask(simulator, 'host-0', 'rbd.watchers', image(`volume-${a}`))).addresses).toHaveLength(1);
  });

  test('goes on without the agent that began it, until it is asked not to be', async () => {
    await simulator.stop();
    simulator = await cloud({ migrationMs: 60_000 });
    await runDomain(simulator, 'host-0', a);
    const before = simulator.inventory();
    await putTask(simulator, 'host-0', 'domain.migrate', { ...move, targetAddress: migrationAddress(1) });
    simulator.restartAgent('host-0');
    expect(simulator.inventory().hosts['host-1']?.domains[a]).toMatchObject({ incoming: true });
    const running = { state: 'running', reason: 'booted' };
    expect(await ask(simulator, 'host-0', 'domain.ensureNotMigrating', { id: a })).toEqual(running);
    expect(simulator.inventory()).toEqual(before);
    expect(await ask(simulator, 'host-0', 'domain.ensureNotMigrating', { id: a })).toEqual(running);
    await ask(simulator, 'host-0', 'domain.ensureGoesOn', { id: a });
    expect(simulator.inventory()).toEqual(before);
    const absent = { state: 'absent', reason: 'absent' };
    expect(await ask(simulator, 'host-1', 'domain.ensureNotMigrating', { id: a })).toEqual(absent);
  });

  test('that is cancelled leaves the guest where it was and nothing on the target', async () => {
    await simulator.stop();
    simulator = await cloud({ migrationMs: 60_000 });
    await runDomain(simulator, 'host-0', a);
    const before = simulator.inventory();
    const slow = { ...move, targetAddress: migrationAddress(1) };
    const { id } = await putTask(simulator, 'host-0', 'domain.migrate', slow);
    const attached = await putTask(simulator, 'host-0', 'domain.migrate', slow, id);
    expect(attached).toMatchObject({ id, state: 'running' });
    expect(simulator.inventory().hosts['host-1']?.domains[a]).toMatchObject({ incoming: true });
    const arriving = { state: 'paused', reason: 'migration' };
    expect(await ask(simulator, 'host-1', 'domain.status', { id: a })).toEqual(arriving);
    await expect(ask(simulator, 'host-1', 'domain.ensureRunning', { id: a })).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
    const response = await fetch(`${simulator.url}/host-0/v1/tasks/${id}`, {
      method: 'DELETE',
      headers: headersOf(firstStamp, await fromNow(simulator, 'host-0')),
    });
    expect(await response.json()).toMatchObject({ state: 'cancelled' });
    expect(simulator.inventory()).toEqual(before);
  });

  test('whose target is lost fails, and the guest runs on', async () => {
    await simulator.stop();
    simulator = await cloud({ migrationMs: 100 });
    await runDomain(simulator, 'host-0', a);
    const migration = runTask(simulator, 'host-0', 'domain.migrate', { ...move, targetAddress: migrationAddress(1) });
    await expect.poll(() => simulator.inventory().hosts['host-1']?.domains[a]).toBeDefined();
    simulator.crashHost('host-1');
    expect(await migration).toMatchObject({ state: 'failed', problem: { code: 'BACKEND_UNAVAILABLE' } });
    expect(await ask(simulator, 'host-0', 'domain.status', { id: a })).toMatchObject({ state: 'running' });
    expect((await ask(simulator, 'host-0', 'rbd.watchers', image(`volume-${a}`))).addresses).toHaveLength(1);
  });
});
