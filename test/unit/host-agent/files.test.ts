/** Pools of files on this machine's own disk, with the real qemu-img. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { backingName, type FilePools, filePools } from '../../../host-agent/agent/files.ts';
import { misfit } from '../../../host-agent/protocol/call.ts';
import { CALLS } from '../../../host-agent/protocol.ts';

const hasQemu = spawnSync('qemu-io', ['--version']).status === 0;
const poolId = randomUUID();

let base: string;
let path: string;
let pools: FilePools;
const guests: ChildProcess[] = [];

beforeEach(async () => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'files-')));
  path = join(base, 'pool');
  mkdirSync(path);
  pools = filePools({ configuration: join(base, 'configuration'), mounts: join(base, 'mounts') });
});
afterEach(async () => {
  for (const guest of guests.splice(0)) await endGuest(guest);
  rmSync(base, { recursive: true, force: true });
});

const root = () => ({ type: 'local' as const, path });
const connect = () => pools.connect({ poolId, root: root(), make: true });
const tags = (id: string, operation = 'op-1') => ({ id, kind: 'volume', operation, revision: 1 });
const snapshotName = (): string => `snap-${randomUUID()}`;
const fileOf = (id: string): string => join(path, 'volumes', `${id}.qcow2`);
const volumeFiles = (): string[] => readdirSync(join(path, 'volumes')).filter((name) => name.endsWith('.qcow2'));

/** Writes a mark where only it may be, and reads what is there. */
const write = (id: string, mark: number, at = 0): unknown =>
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -q -P ${mark} ${at} 64k`, fileOf(id)]);
const holds = (id: string, mark: number, at = 0): boolean =>
  !/verification failed/i.test(
    execFileSync('qemu-io', ['-r', '-f', 'qcow2', '-c', `read -P ${mark} ${at} 64k`, fileOf(id)], { encoding: 'utf8' }),
  );

async function make(sizeGib = 1): Promise<string> {
  const id = randomUUID();
  await pools.ensureVolume({ poolId, id, sizeGib, tags: tags(id) });
  return id;
}
async function snap(id: string): Promise<string> {
  const snapshot = snapshotName();
  await pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) });
  return snapshot;
}
async function clone(volume: string, snapshot: string, sizeGib = 1): Promise<string> {
  const id = randomUUID();
  await pools.ensureClone({ poolId, id, from: { volume, snapshot }, sizeGib, tags: tags(id) });
  return id;
}

/** Somebody who has a volume open for writing, as a guest on whatever host has. */
async function startGuest(id: string): Promise<ChildProcess> {
  const guest = spawn('qemu-io', ['-f', 'qcow2', fileOf(id)], { stdio: ['pipe', 'pipe', 'inherit'] });
  guests.push(guest);
  guest.stdin?.write('length\n');
  await new Promise((resolve) => guest.stdout?.once('data', resolve));
  return guest;
}
async function endGuest(guest: ChildProcess): Promise<void> {
  if (guest.exitCode !== null) return;
  const ended = new Promise((resolve) => guest.once('exit', resolve));
  guest.stdin?.end('quit\n');
  await ended;
}

describe('the directory of a pool', () => {
  test('is that pool’s alone, and is not made where nothing is mounted', async () => {
    await expect(pools.connect({ poolId, root: root(), make: false })).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
    });
    expect(readdirSync(path)).toEqual([]);
    await connect();
    await pools.connect({ poolId, root: root(), make: false });
    const another = { poolId: randomUUID(), root: root(), make: true };
    await expect(pools.connect(another)).rejects.toMatchObject({ code: 'NAME_IN_USE' });
    renameSync(path, `${path}-away`);
    mkdirSync(path);
    await expect(pools.status(poolId)).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' });
  });

  test('is not taken when it holds what is not Belay’s, lies in the system, or is reached by a link', async () => {
    mkdirSync(join(path, 'letters'));
    await expect(connect()).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' });
    expect(readdirSync(path)).toEqual(['letters']);
    rmSync(join(path, 'letters'), { recursive: true });
    symlinkSync(path, join(base, 'link'));
    for (const wrong of [join(base, 'link'), '/etc/belay', '/proc/self/cwd', join(base, 'missing')])
      await expect(
        pools.connect({ poolId, root: { type: 'local', path: wrong }, make: true }),
        wrong,
      ).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' });
  });

  test('is left by a link that was put there later', async () => {
    await connect();
    rmSync(join(path, 'seeds'), { recursive: true });
    symlinkSync('/etc', join(path, 'seeds'));
    await expect(pools.pathOf({ poolId, of: 'seed', id: randomUUID() })).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
    });
  });

  test('is named by a path that leads nowhere else', () => {
    const wrong = (name: string) =>
      misfit(CALLS['files.ensureConnected'].input, { poolId, root: { type: 'local', path: name }, make: true });
    expect(wrong('/srv/pool-1')).toBeUndefined();
    for (const name of [
      'srv',
      '/',
      '/srv/',
      '/srv/../etc',
      '/srv/./x',
      '//srv',
      '/srv/.hidden',
      '/a b',
      '/a,b',
      '/a:b',
    ])
      expect(wrong(name), name).toBeDefined();
  });

  test('goes when it is empty, and what is another’s stays', async () => {
    await connect();
    await pools.removePool({ poolId: randomUUID(), root: root() });
    expect(existsSync(join(path, 'volumes'))).toBe(true);
    await pools.removePool({ poolId, root: root() });
    await pools.removePool({ poolId, root: root() });
    expect(readdirSync(path)).toEqual([]);
    expect(await pools.connected()).toEqual([]);
  });
});

describe.skipIf(!hasQemu)('volumes in files', () => {
  beforeEach(connect);

  test('a snapshot keeps what the volume had, and the volume goes back to it', async () => {
    const id = await make();
    write(id, 1);
    const first = await snap(id);
    write(id, 2);
    await pools.ensureSize({ poolId, id, sizeGib: 2, allowShrink: false });
    const second = await snap(id);
    write(id, 3);
    await pools.rollBack({ poolId, id, snapshot: first });
    expect(holds(id, 1)).toBe(true);
    expect((await pools.inventory(poolId)).files[0]).toMatchObject({ id, sizeBytes: 2 ** 30 });
    await pools.rollBack({ poolId, id, snapshot: second });
    expect(holds(id, 2)).toBe(true);
    expect((await pools.inventory(poolId)).files[0]?.snapshots).toEqual([first, second].sort());
  });

  test('a clone reads from its snapshot until that has gone from sight, and lives on when its volume is gone', async () => {
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    write(id, 2);
    const copy = await clone(id, snapshot, 2);
    write(copy, 7, 2 ** 20);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    await pools.ensureTrashed({ poolId, id });
    await pools.ensureExpunged({ poolId, id });
    expect([holds(copy, 1), holds(copy, 7, 2 ** 20)]).toEqual([true, true]);
    expect(await pools.inventory(poolId)).toMatchObject({ files: [{ id: copy, snapshots: [] }], trash: [], parts: [] });
    await pools.ensureExpunged({ poolId, id: copy });
    expect(readdirSync(join(path, 'volumes'))).toEqual([]);
  });

  test('layers without a snapshot are joined, whatever lies above and below them', async () => {
    const id = await make();
    write(id, 1);
    const first = await snap(id);
    write(id, 2, 2 ** 20);
    const second = await snap(id);
    write(id, 3, 2 ** 21);
    expect(volumeFiles()).toHaveLength(3);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot: first });
    expect(volumeFiles()).toHaveLength(2);
    expect(await backingName(fileOf(id))).toBe(`${id}.${second}.qcow2`);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot: second });
    expect(volumeFiles()).toEqual([`${id}.qcow2`]);
    expect([holds(id, 1), holds(id, 2, 2 ** 20), holds(id, 3, 2 ** 21)]).toEqual([true, true, true]);
  });

  test('what a guest has open is neither snapped, grown, rolled back nor removed from elsewhere', async () => {
    const id = await make();
    const snapshot = await snap(id);
    const guest = await startGuest(id);
    const before = readdirSync(join(path, 'volumes')).sort();
    const late = snapshotName();
    for (const refused of [
      () => pools.ensureSnapshot({ poolId, id, snapshot: late, tags: tags(late) }),
      () => pools.ensureSize({ poolId, id, sizeGib: 2, allowShrink: false }),
      () => pools.rollBack({ poolId, id, snapshot }),
      () => pools.ensureTrashed({ poolId, id }),
      () => pools.ensureExpunged({ poolId, id }),
      () => pools.ensureAbsent({ poolId, of: 'volume', id }),
    ])
      await expect(refused()).rejects.toMatchObject({ code: 'INVALID_STATE', retryable: true });
    expect(readdirSync(join(path, 'volumes')).sort()).toEqual(before);
    // The snapshot goes from sight; its layer stays until the guest has ended.
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect(volumeFiles()).toHaveLength(2);
    await endGuest(guest);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect(volumeFiles()).toEqual([`${id}.qcow2`]);
  });

  test('a second writer of one volume is refused by the image itself', async () => {
    const id = await make();
    await startGuest(id);
    expect(() => write(id, 1)).toThrow(/lock/);
  });

  test('what an agent that ended between two names left is made whole', async () => {
    const id = await make();
    write(id, 5);
    const snapshot = snapshotName();
    await pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) });
    rmSync(fileOf(id));
    await pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) });
    expect(holds(id, 5)).toBe(true);
  });

  test('an undo removes only what its own operation has made', async () => {
    const id = await make();
    await pools.ensureAbsent({ poolId, of: 'volume', id, onlyOperation: 'another' });
    expect(volumeFiles()).toHaveLength(1);
    await pools.ensureAbsent({ poolId, of: 'volume', id, onlyOperation: 'op-1' });
    await pools.ensureAbsent({ poolId, of: 'volume', id, onlyOperation: 'op-1' });
    expect(readdirSync(join(path, 'volumes'))).toEqual([]);
  });

  test('grows, and shrinks only when told so', async () => {
    const id = await make(1);
    await pools.ensureSize({ poolId, id, sizeGib: 3, allowShrink: false });
    const shrink = { poolId, id, sizeGib: 1, allowShrink: false };
    await expect(pools.ensureSize(shrink)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await pools.ensureSize({ ...shrink, allowShrink: true });
    expect((await pools.inventory(poolId)).files[0]?.sizeBytes).toBe(2 ** 30);
  });
});
