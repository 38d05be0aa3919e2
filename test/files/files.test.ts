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
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { acting } from '../../host-agent/agent/acting.ts';
import { runProgram } from '../../host-agent/agent/command.ts';
import { type FilePools, filePools } from '../../host-agent/agent/files.ts';
import { misfit } from '../../host-agent/protocol/call.ts';
import { CALLS } from '../../host-agent/protocol.ts';
import { openInQemu, type QemuGuest } from '../support/qemuGuest.ts';

/** The agent as these tests have it: it may end before any of its changes, and others may act while it looks or copies. */
const agent = vi.hoisted(() => ({
  changesLeft: Number.POSITIVE_INFINITY,
  beforeOpen: async (_path: string): Promise<void> => {},
  beforeCommit: async (): Promise<void> => {},
  beforeLink: async (): Promise<void> => {},
  /** What it has asked of the file system that a loss of power could undo, in that order. */
  asked: [] as { what: 'sync' | 'name' | 'gone'; path: string; from?: string }[],
}));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const change =
    <Args extends unknown[], Result>(work: (...args: Args) => Promise<Result>) =>
    async (...args: Args) => {
      if (agent.changesLeft-- <= 0) throw new Error('the agent has ended');
      return work(...args);
    };
  return {
    ...real,
    rename: change(async (from: string, to: string) => {
      await real.rename(from, to);
      agent.asked.push({ what: 'name', path: to, from });
    }),
    link: change(async (from: string, to: string) => {
      await agent.beforeLink();
      await real.link(from, to);
      agent.asked.push({ what: 'name', path: to, from });
    }),
    rm: change(async (path: string, options: { force?: boolean }) => {
      await real.rm(path, options);
      agent.asked.push({ what: 'gone', path });
    }),
    writeFile: change(async (path: string, content: string, options: { flush?: boolean }) => {
      await real.writeFile(path, content, options);
      if (options.flush) agent.asked.push({ what: 'sync', path });
    }),
    readdir: async (path: string) => (await real.readdir(path)).sort(),
    open: async (path: string, flags: string) => {
      await agent.beforeOpen(path);
      const file = await real.open(path, flags);
      // No power is lost here: that it was asked is what counts.
      file.sync = async () => {
        agent.asked.push({ what: 'sync', path });
      };
      return file;
    },
  };
});
vi.mock('../../host-agent/agent/command.ts', async (original) => {
  const real = await original<typeof import('../../host-agent/agent/command.ts')>();
  return {
    ...real,
    runProgram: async (...[program, argv, options]: Parameters<typeof real.runProgram>) => {
      if (['create', 'commit', 'resize'].includes(argv[0] ?? '') && agent.changesLeft-- <= 0)
        throw new Error('the agent has ended');
      if (argv[0] === 'commit') await agent.beforeCommit();
      return real.runProgram(program, argv, options);
    },
  };
});

const hasQemu = ['qemu-io', 'qemu-storage-daemon'].every((program) => spawnSync(program, ['--version']).status === 0);
if (!hasQemu) console.log('skipped: volumes in files, because QEMU is not installed (qemu-utils, qemu-system-x86)');
const poolId = randomUUID();

let base: string;
let path: string;
let pools: FilePools;
const guests: ChildProcess[] = [];
const running: QemuGuest[] = [];

beforeEach(async () => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'files-')));
  path = join(base, 'pool');
  mkdirSync(path);
  pools = filePools({ configuration: join(base, 'configuration'), mounts: join(base, 'mounts') });
});
afterEach(async () => {
  agent.changesLeft = Number.POSITIVE_INFINITY;
  agent.beforeOpen = async () => {};
  agent.beforeCommit = async () => {};
  agent.beforeLink = async () => {};
  for (const guest of guests.splice(0)) await endGuest(guest);
  for (const guest of running.splice(0)) await guest.end();
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
  execFileSync('qemu-io', ['-t', 'unsafe', '-f', 'qcow2', '-c', `write -q -P ${mark} ${at} 64k`, fileOf(id)]);
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

const layerOf = (id: string, snapshot: string): string => fileOf(`${id}.${snapshot}`);
const filesOf = (id: string): string[] => volumeFiles().filter((name) => name.startsWith(id));
const partOf = (name: string): string => join(path, 'parts', name);
const parts = (): string[] => readdirSync(join(path, 'parts'));
const overlay = (file: string, below: string): unknown =>
  execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', below, file, String(2 ** 30)]);

/** Lets the agent end before each change that the work makes, one after the other, until it makes them all. */
async function endingAnywhere(attempt: (work: (acting: Promise<unknown>) => Promise<void>) => Promise<void>) {
  let deaths = 0;
  for (let ended = true; ended; deaths++) {
    ended = false;
    await attempt(async (acting) => {
      agent.changesLeft = deaths;
      await acting.catch((error: Error) => {
        if (error.message !== 'the agent has ended') throw error;
        ended = true;
      });
      agent.changesLeft = Number.POSITIVE_INFINITY;
    });
  }
  return deaths - 1;
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

/** FUSE, and a QEMU that serves by it. */
const canHang = spawnSync('qemu-storage-daemon', ['--help']).status === 0 && existsSync('/dev/fuse');

/** A file of a file system in user space whose server has been stopped: whoever opens it waits. */
async function hang(file: string): Promise<() => Promise<void>> {
  const image = join(base, 'hangs');
  writeFileSync(image, Buffer.alloc(4096));
  if (!existsSync(file)) writeFileSync(file, '');
  const server = spawn(
    'qemu-storage-daemon',
    [
      ...['--blockdev', `driver=file,node-name=image,filename=${image}`],
      ...['--export', `type=fuse,id=image,node-name=image,mountpoint=${file},writable=off`],
      ...['--chardev', 'stdio,id=monitor', '--monitor', 'chardev=monitor'],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  // It greets when it serves.
  await new Promise((resolve) => server.stdout.once('data', resolve));
  server.kill('SIGSTOP');
  return async () => {
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
    spawnSync('umount', ['-l', file]);
  };
}

describe.skipIf(!canHang)('a directory whose file server hangs', () => {
  test('is told as that in time, and holds up nobody who works elsewhere', async () => {
    const shared = randomUUID();
    const directory = join(base, 'shared');
    mkdirSync(directory);
    const places = { configuration: join(base, 'configuration'), mounts: join(base, 'mounts'), answerTimeoutMs: 500 };
    const bounded = filePools(places);
    const there = { poolId: shared, root: { type: 'sharedMount' as const, path: directory } };
    await bounded.connect({ ...there, make: true });
    await connect();
    const letGo = await hang(join(directory, '.belay-pool'));
    try {
      const asked = Promise.allSettled(Array.from({ length: 8 }, () => bounded.status(shared)));
      // More than there are threads, and one that works elsewhere meanwhile.
      expect((await pools.status(poolId)).totalBytes).toBeGreaterThan(0);
      for (const outcome of await asked)
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'BACKEND_UNAVAILABLE', retryable: true } });
      for (const refused of [bounded.connect({ ...there, make: false }), bounded.removePool(there)])
        await expect(refused).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    } finally {
      await letGo();
    }
    expect((await bounded.status(shared)).totalBytes).toBeGreaterThan(0);
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
    const info = execFileSync('qemu-img', ['info', '--output=json', fileOf(id)], { encoding: 'utf8' });
    // As it stands there: names with directories in them grow when QEMU joins.
    expect(JSON.parse(info)['backing-filename']).toBe(`${id}.${second}.qcow2`);
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

  test('wherever an agent ends that takes a snapshot, the undo leaves the volume as it was', async () => {
    const deaths = await endingAnywhere(async (work) => {
      const [id, snapshot] = [await make(), snapshotName()];
      write(id, 5);
      await work(pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) }));
      await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
      expect([filesOf(id), holds(id, 5), parts()]).toEqual([[`${id}.qcow2`], true, []]);
    });
    expect(deaths).toBeGreaterThan(5);
  }, 120_000);

  test('wherever an agent ends that takes a snapshot or goes back to it, it can be asked again', async () => {
    const snapshots = await endingAnywhere(async (work) => {
      const [id, snapshot] = [await make(), snapshotName()];
      write(id, 5);
      const taking = { poolId, id, snapshot, tags: tags(snapshot) };
      await work(pools.ensureSnapshot(taking));
      expect(existsSync(fileOf(id))).toBe(true);
      await pools.ensureSnapshot(taking);
      write(id, 6);
      await pools.rollBack({ poolId, id, snapshot });
      expect([holds(id, 5), filesOf(id).length, parts()]).toEqual([true, 2, []]);
    });
    const returns = await endingAnywhere(async (work) => {
      const id = await make();
      write(id, 5);
      const snapshot = await snap(id);
      write(id, 6);
      await work(pools.rollBack({ poolId, id, snapshot }));
      await pools.rollBack({ poolId, id, snapshot });
      await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
      expect([holds(id, 5), filesOf(id), parts()]).toEqual([true, [`${id}.qcow2`], []]);
    });
    expect(Math.min(snapshots, returns)).toBeGreaterThan(2);
  }, 120_000);

  test.each(['whole', 'empty', 'missing'])(
    'a volume whose file has only the layer’s name, and whose part is %s, gets it back',
    async (part) => {
      const calls = {
        undo: (id: string, snapshot: string) => pools.ensureSnapshotAbsent({ poolId, id, snapshot }),
        again: (id: string, snapshot: string) => pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) }),
        ...(part === 'whole' && {
          trash: async (id: string) => {
            await pools.ensureTrashed({ poolId, id });
            await pools.ensureRestored({ poolId, id });
          },
          grow: (id: string) => pools.ensureSize({ poolId, id, sizeGib: 1, allowShrink: false }),
        }),
      };
      for (const [name, call] of Object.entries(calls)) {
        const [id, snapshot] = [await make(), snapshotName()];
        write(id, 5);
        renameSync(fileOf(id), layerOf(id, snapshot));
        if (part === 'whole') overlay(partOf(`${id}.qcow2`), `../volumes/${id}.${snapshot}.qcow2`);
        else if (part === 'empty') writeFileSync(partOf(`${id}.qcow2`), '');
        await call(id, snapshot);
        expect([holds(id, 5), parts()], name).toEqual([true, []]);
        expect(filesOf(id), name).toHaveLength(name === 'again' ? 2 : 1);
      }
    },
  );

  test('the only layer of a volume without a file is not taken for one that nothing lives on', async () => {
    const id = await make();
    const first = await snap(id);
    write(id, 5);
    const copy = await clone(id, first);
    const second = snapshotName();
    renameSync(fileOf(id), layerOf(id, second));
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot: first });
    await pools.ensureExpunged({ poolId, id: copy });
    expect(existsSync(layerOf(id, second))).toBe(true);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot: second });
    expect([holds(id, 5), filesOf(id)]).toEqual([true, [`${id}.qcow2`]]);
  });

  test('a volume is not given another file because a clone of its snapshot goes', async () => {
    const id = await make();
    const snapshot = await snap(id);
    const copy = await clone(id, snapshot);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect(filesOf(id)).toHaveLength(2);
    const { ino } = statSync(fileOf(id));
    await pools.ensureExpunged({ poolId, id: copy });
    expect([statSync(fileOf(id)).ino, filesOf(id).length]).toEqual([ino, 2]);
    // Who holds the volume has them joined.
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect(filesOf(id)).toHaveLength(1);
  });

  test('while layers of one volume are copied, others are worked on, and that one is not', async () => {
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    write(id, 2, 2 ** 20);
    let endCopy = () => {};
    const order: string[] = [];
    let joining: Promise<unknown> = Promise.resolve();
    await new Promise<void>((copies) => {
      agent.beforeCommit = () => {
        copies();
        return new Promise((resolve) => {
          endCopy = resolve;
        });
      };
      joining = pools.ensureSnapshotAbsent({ poolId, id, snapshot }).then(() => order.push('joined'));
    });
    const grown = pools.ensureSize({ poolId, id, sizeGib: 2, allowShrink: false }).then(() => order.push('grown'));
    const another = await make();
    await pools.ensureExpunged({ poolId, id: another });
    order.push('another');
    endCopy();
    await Promise.all([joining, grown]);
    expect(order).toEqual(['another', 'joined', 'grown']);
    expect([holds(id, 1), holds(id, 2, 2 ** 20), filesOf(id).length]).toEqual([true, true, 1]);
  });

  test('a call that was in time goes on when it has copied for longer than it could have waited', async () => {
    const id = await make();
    const first = await snap(id);
    let late = false;
    const refuseLate = () => {
      if (late) throw new Error('too late');
    };
    agent.beforeCommit = async () => {
      late = true;
    };
    const timely = (work: () => Promise<void>) => acting.run({ refuseLate, leftMs: () => 0 }, work);
    await timely(() => pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }));
    expect(filesOf(id)).toHaveLength(1);
    await expect(timely(() => pools.ensureTrashed({ poolId, id }))).rejects.toThrow('too late');
  });

  test('a layer whose copying takes too long waits, and the volume has all it had', async () => {
    await expect(runProgram('sleep', ['60'], { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    write(id, 2, 2 ** 20);
    agent.beforeCommit = () => runProgram('sleep', ['60'], { timeoutMs: 50 }).then(() => {});
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([filesOf(id).length, holds(id, 1), holds(id, 2, 2 ** 20)]).toEqual([2, true, true]);
    agent.beforeCommit = async () => {};
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect(filesOf(id)).toHaveLength(1);
  });

  test('layers are not joined under a guest that starts when they have been copied', async () => {
    const id = await make();
    const snapshot = await snap(id);
    const { ino } = statSync(fileOf(id));
    let begun = false;
    agent.beforeCommit = async () => {
      begun = true;
    };
    agent.beforeOpen = async (opened) => {
      if (!begun || opened !== fileOf(id)) return;
      begun = false;
      await startGuest(id);
    };
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([statSync(fileOf(id)).ino, filesOf(id).length]).toEqual([ino, 2]);
  });

  test('a guest that starts while a joined layer gets its volume’s name keeps the file that it has open', async () => {
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    const { ino } = statSync(fileOf(id));
    let guest: ChildProcess | undefined;
    agent.beforeLink = async () => {
      guest ??= await startGuest(id);
    };
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([statSync(fileOf(id)).ino, filesOf(id).length, parts()]).toEqual([ino, 2, []]);
    if (guest) await endGuest(guest);
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([filesOf(id).length, holds(id, 1), parts()]).toEqual([1, true, []]);
  });

  test('wherever an agent ends that joins layers, the volume has all it had', async () => {
    const deaths = await endingAnywhere(async (work) => {
      const id = await make();
      write(id, 1);
      const snapshot = await snap(id);
      write(id, 2, 2 ** 20);
      await work(pools.ensureSnapshotAbsent({ poolId, id, snapshot }));
      expect([holds(id, 1), holds(id, 2, 2 ** 20)]).toEqual([true, true]);
      await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
      expect([holds(id, 1), holds(id, 2, 2 ** 20), filesOf(id).length, parts()]).toEqual([true, true, 1, []]);
    });
    expect(deaths).toBeGreaterThan(4);
  }, 120_000);

  test('layers that had to stay while a guest ran go with the next snapshot', async () => {
    const id = await make();
    let kept = await snap(id);
    for (let night = 1; night <= 3; night++) {
      write(id, night, night * 2 ** 20);
      const guest = await startGuest(id);
      await pools.ensureSnapshotAbsent({ poolId, id, snapshot: kept });
      await endGuest(guest);
      kept = await snap(id);
      expect(filesOf(id).sort()).toEqual([`${id}.qcow2`, `${id}.${kept}.qcow2`].sort());
    }
    for (const night of [1, 2, 3]) expect(holds(id, night, night * 2 ** 20)).toBe(true);
  });

  test('what was not whole goes with what it was to be, and pins nothing', async () => {
    const [image, seed, id] = [randomUUID(), randomUUID(), randomUUID()];
    await pools.ensureVolume({ poolId, id: image, sizeGib: 1, tags: tags(image) });
    for (const end of ['qcow2', 'json'])
      renameSync(join(path, 'volumes', `${image}.${end}`), join(path, 'images', `${image}.${end}`));
    overlay(partOf(`${id}.qcow2`), `../images/${image}.qcow2`);
    const others = [`${image}.op-2.download`, `${image}.op-2.qcow2`];
    for (const name of [`${image}.op-1.download`, `${image}.op-1.qcow2`, ...others, `${seed}.iso`, `${seed}.iso.part`])
      writeFileSync(partOf(name), '');
    await expect(pools.ensureAbsent({ poolId, of: 'image', id: image, onlyOperation: 'op-1' })).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
    await pools.ensureAbsent({ poolId, of: 'volume', id, onlyOperation: 'op-1' });
    await pools.ensureAbsent({ poolId, of: 'seed', id: seed, onlyOperation: 'op-1' });
    expect(parts().sort()).toEqual(others.sort());
    await pools.ensureAbsent({ poolId, of: 'image', id: image });
    expect([parts(), readdirSync(join(path, 'images'))]).toEqual([[], []]);
  });

  test('a pool with nothing but what was not whole goes', async () => {
    for (const name of [`${randomUUID()}.op-1.download`, `${randomUUID()}.iso`, `${randomUUID()}.qcow2`])
      writeFileSync(partOf(name), '');
    writeFileSync(join(path, 'volumes', `${randomUUID()}.json.part`), '');
    const id = await make();
    await expect(pools.removePool({ poolId, root: root() })).rejects.toMatchObject({ code: 'INVALID_STATE' });
    await pools.ensureExpunged({ poolId, id });
    await pools.removePool({ poolId, root: root() });
    expect(readdirSync(path)).toEqual([]);
  });

  test.each(['ensureExpunged', 'ensureAbsent'] as const)(
    'wherever an agent ends in %s, the next leaves nothing of a clone and what it lived on',
    async (name) => {
      const deaths = await endingAnywhere(async (work) => {
        const id = await make();
        const middle = await clone(id, await snap(id));
        const last = await clone(middle, await snap(middle));
        for (const gone of [id, middle]) await pools.ensureExpunged({ poolId, id: gone });
        expect(volumeFiles()).toHaveLength(3);
        const remove = () => pools[name]({ poolId, of: 'volume', id: last });
        await work(remove());
        await remove();
        expect([readdirSync(join(path, 'volumes')), parts()]).toEqual([[], []]);
      });
      expect(deaths).toBeGreaterThan(5);
    },
    120_000,
  );

  test('wherever an agent ends that makes a clone, the undo leaves nothing of it, and pins nothing', async () => {
    const deaths = await endingAnywhere(async (work) => {
      const [id, copy] = [await make(), randomUUID()];
      const from = { volume: id, snapshot: await snap(id) };
      await work(pools.ensureClone({ poolId, id: copy, from, sizeGib: 1, tags: tags(copy) }));
      await pools.ensureExpunged({ poolId, id });
      await pools.ensureAbsent({ poolId, of: 'volume', id: copy, onlyOperation: 'op-1' });
      expect([readdirSync(join(path, 'volumes')), parts()]).toEqual([[], []]);
    });
    expect(deaths).toBeGreaterThan(3);
  }, 120_000);

  test('a file that gets another name while the agent looks is not overlooked', async () => {
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    const [gone, kept] = [await clone(id, snapshot), await clone(id, snapshot)];
    await pools.ensureExpunged({ poolId, id });
    // From another host.
    agent.beforeOpen = async (opened) => {
      if (opened === fileOf(kept) && existsSync(opened)) renameSync(opened, fileOf(`${kept}.trashed`));
    };
    await pools.ensureExpunged({ poolId, id: gone });
    agent.beforeOpen = async () => {};
    expect(existsSync(layerOf(id, snapshot))).toBe(true);
    await pools.ensureRestored({ poolId, id: kept });
    expect(holds(kept, 1)).toBe(true);
  });

  test('a layer that is joined with its volume while the agent looks leaves what it lived on', async () => {
    const id = await make();
    write(id, 1);
    const snapshot = await snap(id);
    const [gone, kept] = [await clone(id, snapshot), await clone(id, snapshot)];
    const middle = layerOf(kept, await snap(kept));
    await pools.ensureExpunged({ poolId, id });
    let looked = false;
    // From another host.
    agent.beforeOpen = async (opened) => {
      looked ||= opened === fileOf(kept);
      if (opened !== middle || !looked || !existsSync(middle)) return;
      execFileSync('qemu-img', ['commit', '-q', '-f', 'qcow2', '-b', middle, fileOf(kept)]);
      renameSync(middle, fileOf(kept));
    };
    await pools.ensureExpunged({ poolId, id: gone });
    agent.beforeOpen = async () => {};
    expect([existsSync(middle), existsSync(layerOf(id, snapshot)), holds(kept, 1)]).toEqual([false, true, true]);
  });
});

const hasSystemQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;

describe.skipIf(!hasQemu || !hasSystemQemu)('volumes in files under a guest that runs', () => {
  beforeEach(() => connect());

  async function start(id: string): Promise<QemuGuest> {
    const guest = await openInQemu((await pools.pathOf({ poolId, of: 'volume', id })).path);
    running.push(guest);
    return guest;
  }
  async function snapUnder(id: string, guest: QemuGuest, snapshot = snapshotName()): Promise<string> {
    await pools.ensureSnapshot({ poolId, id, snapshot, tags: tags(snapshot) }, guest);
    return snapshot;
  }
  /** What a snapshot holds, as a clone shows it. */
  async function snapHolds(id: string, snapshot: string, mark: number): Promise<boolean> {
    const copy = await clone(id, snapshot);
    const held = holds(copy, mark);
    await pools.ensureExpunged({ poolId, id: copy });
    return held;
  }
  const sizeOf = async (): Promise<unknown> => (await pools.inventory(poolId)).files[0]?.sizeBytes;
  const topOf = (id: string, snapshot: string): string => fileOf(`${id}.top-${snapshot}`);
  /** Snapshots whose files are found in that order. */
  const named = (place: number): string => `snap-${place}${randomUUID().slice(1)}`;
  const dies = (): never => {
    throw new Error('the agent has ended');
  };
  /** A guest whose agent ends when it has joined layers, and before it does anything else. */
  const dyingInJoin = (guest: QemuGuest): QemuGuest => ({
    ...guest,
    async join(files) {
      await guest.join(files);
      return dies();
    },
  });

  test('each snapshot keeps what the guest had written, which goes on, and so does the volume when it has ended', async () => {
    const id = await make();
    const guest = await start(id);
    guest.write(1);
    const first = await snapUnder(id, guest);
    guest.write(2);
    const second = await snapUnder(id, guest);
    guest.write(3);
    expect([await snapHolds(id, first, 1), await snapHolds(id, second, 2), guest.holds(3)]).toEqual([true, true, true]);
    // Asked again, it is there.
    await pools.ensureSnapshot({ poolId, id, snapshot: second, tags: tags(second) }, guest);
    expect(await guest.chain()).toHaveLength(3);
    expect((await pools.inventory(poolId)).files).toMatchObject([{ id, snapshots: [first, second].sort() }]);
    await guest.end();
    expect((await pools.pathOf({ poolId, of: 'volume', id })).path).toBe(fileOf(id));
    expect(filesOf(id)).toHaveLength(3);
    expect([holds(id, 3), await snapHolds(id, first, 1), await snapHolds(id, second, 2)]).toEqual([true, true, true]);
    await pools.rollBack({ poolId, id, snapshot: first });
    expect(holds(id, 1)).toBe(true);
    for (const snapshot of [first, second]) await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([filesOf(id), holds(id, 1)]).toEqual([[`${id}.qcow2`], true]);
  });

  test('what the guest writes to is snapped, grown, thrown away and gone back from by nobody else', async () => {
    const id = await make();
    const guest = await start(id);
    const snapshot = await snapUnder(id, guest);
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
    expect((await pools.pathOf({ poolId, of: 'volume', id })).path).toBe((await guest.chain())[0]);
    // From elsewhere, or with nobody there to take part, it goes from sight alone.
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    guest.write(4);
    expect(guest.holds(4)).toBe(true);
    await guest.end();
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
    expect([filesOf(id), holds(id, 4), await sizeOf()]).toEqual([[`${id}.qcow2`], true, 2 ** 30]);
  });

  test('what a call has done outlasts a loss of power: bytes are on the disk before they get a name, and the name is before the answer', async () => {
    const calls: Record<string, (id: string) => Promise<unknown>> = {
      ensureVolume: async () => {
        const id = randomUUID();
        await pools.ensureVolume({ poolId, id, sizeGib: 1, tags: tags(id) });
      },
      ensureSnapshot: (id) => snap(id),
      rollBack: async (id) => pools.rollBack({ poolId, id, snapshot: await snap(id) }),
      ensureClone: async (id) => clone(id, await snap(id)),
      ensureSnapshotAbsent: async (id) => pools.ensureSnapshotAbsent({ poolId, id, snapshot: await snap(id) }),
      ensureExpunged: (id) => pools.ensureExpunged({ poolId, id }),
      ensureAbsent: (id) => pools.ensureAbsent({ poolId, of: 'volume', id }),
      ensureTrashed: (id) => pools.ensureTrashed({ poolId, id }),
      'ensureSnapshot under a guest': async (id) => snapUnder(id, await start(id)),
      'ensureSnapshotAbsent under a guest': async (id) => {
        const guest = await start(id);
        const first = await snapUnder(id, guest);
        for (const _ of ['second', 'third']) await snapUnder(id, guest);
        await pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }, guest);
      },
    };
    for (const [name, call] of Object.entries(calls)) {
      const id = await make();
      write(id, 1);
      agent.asked = [];
      await call(id);
      const { asked } = agent;
      expect(asked.filter(({ what }) => what === 'name').length, name).toBeGreaterThan(0);
      for (const [index, { what, path: to, from = '' }] of asked.entries()) {
        if (what === 'gone' && to.endsWith('.json'))
          expect(asked.slice(index + 1), `${name}: ${to} goes`).toContainEqual({ what: 'sync', path: dirname(to) });
        // What is being removed is removed again by whoever finds it.
        if (what !== 'name' || to.endsWith('.removed.qcow2')) continue;
        const isNew = from.includes('/parts/') || from.endsWith('.part');
        const before = asked.slice(0, index).some((one) => one.what === 'sync' && one.path === from);
        const after = asked.slice(index + 1).some((one) => one.what === 'sync' && one.path === dirname(to));
        expect([before || !isNew, after], `${name}: ${from} becomes ${to}`).toEqual([true, true]);
      }
    }
  }, 60_000);

  test('snapshots go while the guest runs: what is left of one is joined with what came after it', async () => {
    const id = await make();
    const guest = await start(id);
    const taken: string[] = [];
    for (const mark of [1, 2, 3, 4]) {
      guest.write(mark);
      guest.write(mark + 10, mark * 65_536);
      taken.push(await snapUnder(id, guest));
    }
    const [first, second, third, fourth] = taken as [string, string, string, string];
    guest.write(5);
    const gone = (snapshot: string) => pools.ensureSnapshotAbsent({ poolId, id, snapshot }, guest);
    await gone(second);
    expect(await guest.chain()).toHaveLength(4);
    expect([await snapHolds(id, first, 1), await snapHolds(id, third, 3), guest.holds(5)]).toEqual([true, true, true]);
    // The last one is right below what the guest writes to, and stays until it has ended.
    await gone(fourth);
    expect(await guest.chain()).toHaveLength(4);
    await gone(first);
    await gone(third);
    for (const mark of [1, 2, 3, 4]) expect(guest.holds(mark + 10, mark * 65_536)).toBe(true);
    expect((await guest.chain()).length).toBeLessThan(4);
    await guest.end();
    await pools.ensureSnapshotAbsent({ poolId, id, snapshot: fourth });
    expect([filesOf(id), holds(id, 5), parts()]).toEqual([[`${id}.qcow2`], true, []]);
    for (const mark of [1, 2, 3, 4]) expect(holds(id, mark + 10, mark * 65_536)).toBe(true);
  });

  test('a guest that began on a volume with snapshots loses them, too, and the volume keeps its file', async () => {
    const id = await make();
    write(id, 1);
    const first = await snap(id);
    write(id, 2);
    const second = await snap(id);
    const guest = await start(id);
    guest.write(3);
    const third = await snapUnder(id, guest);
    guest.write(4);
    const fourth = await snapUnder(id, guest);
    for (const snapshot of [second, first]) await pools.ensureSnapshotAbsent({ poolId, id, snapshot }, guest);
    expect(existsSync(fileOf(id))).toBe(true);
    expect([await snapHolds(id, third, 3), await snapHolds(id, fourth, 4)]).toEqual([true, true]);
    await guest.end();
    expect([(await pools.pathOf({ poolId, of: 'volume', id })).path, holds(id, 4)]).toEqual([fileOf(id), true]);
  });

  test.each([
    ['when the guest has ended', 'first'],
    ['under the guest', 'first'],
    ['when the guest has ended', 'last'],
  ] as const)(
    'an agent that ends when layers have been joined, %s, costs nothing of what the guest wrote: the joined one is found %s',
    async (then, place) => {
      const deaths = await endingAnywhere(async (work) => {
        const id = await make();
        const guest = await start(id);
        guest.write(1);
        const first = await snapUnder(id, guest, named(place === 'first' ? 1 : 2));
        const gone = (snapshot: string, disk?: QemuGuest) => pools.ensureSnapshotAbsent({ poolId, id, snapshot }, disk);
        // Right below what the guest writes to: it stays.
        await gone(first, guest);
        guest.write(2, 65_536);
        const second = await snapUnder(id, guest, named(place === 'first' ? 2 : 1));
        guest.write(3, 131_072);
        await expect(gone(second, dyingInJoin(guest))).rejects.toThrow('the agent has ended');
        expect(await guest.chain()).toHaveLength(2);
        if (then === 'under the guest') {
          await work(gone(second, guest));
          guest.write(4, 196_608);
          await gone(second, guest);
          // What the guest does without takes no room.
          expect(filesOf(id).filter((name) => name.includes('.top-'))).toEqual([basename(topOf(id, second))]);
          await guest.end();
        } else {
          await guest.end();
          await work(pools.pathOf({ poolId, of: 'volume', id }));
        }
        expect((await pools.pathOf({ poolId, of: 'volume', id })).path).toBe(fileOf(id));
        await gone(second);
        expect([filesOf(id), parts()]).toEqual([[`${id}.qcow2`], []]);
        for (const mark of [1, 2, 3, ...(then === 'under the guest' ? [4] : [])])
          expect(holds(id, mark, (mark - 1) * 65_536), `${mark}`).toBe(true);
        await pools.ensureExpunged({ poolId, id });
      });
      expect(deaths).toBeGreaterThan(1);
    },
    240_000,
  );

  test('a joined layer that a snapshot still has takes no room, though the agent ended before it could see to that', async () => {
    const id = await make();
    const guest = await start(id);
    guest.write(1);
    const first = await snapUnder(id, guest);
    guest.write(2);
    const second = await snapUnder(id, guest);
    guest.write(3);
    const third = await snapUnder(id, guest);
    guest.write(4);
    const gone = (disk: QemuGuest) => pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }, disk);
    await expect(gone(dyingInJoin(guest))).rejects.toThrow('the agent has ended');
    const full = statSync(layerOf(id, second)).blocks;
    await gone(guest);
    expect(statSync(layerOf(id, second)).blocks).toBeLessThan(full);
    expect(existsSync(topOf(id, first))).toBe(false);
    expect([await snapHolds(id, second, 2), await snapHolds(id, third, 3), guest.holds(4)]).toEqual([true, true, true]);
  });

  test('wherever an agent ends that makes one file of what a guest wrote to, the volume is found again', async () => {
    const deaths = await endingAnywhere(async (work) => {
      const id = await make();
      const guest = await start(id);
      const taken: string[] = [];
      for (const mark of [1, 2, 3]) {
        guest.write(mark);
        taken.push(await snapUnder(id, guest));
      }
      guest.write(4);
      await guest.end();
      const find = () => pools.pathOf({ poolId, of: 'volume', id });
      await work(find());
      expect([(await find()).path, holds(id, 4), filesOf(id).length]).toEqual([fileOf(id), true, 4]);
      for (const [index, snapshot] of taken.entries()) expect(await snapHolds(id, snapshot, index + 1)).toBe(true);
      await pools.ensureExpunged({ poolId, id });
    });
    expect(deaths).toBeGreaterThan(2);
  }, 240_000);

  test('a snapshot that the guest never came to is not told as taken by whoever is asked without the guest', async () => {
    const id = await make();
    const guest = await start(id);
    guest.write(1);
    const snapshot = snapshotName();
    const taking = { poolId, id, snapshot, tags: tags(snapshot) };
    await expect(pools.ensureSnapshot(taking, { ...guest, put: async () => dies() })).rejects.toThrow('ended');
    for (const refused of [() => pools.ensureSnapshot(taking), () => pools.rollBack({ poolId, id, snapshot })])
      await expect(refused()).rejects.toMatchObject({ code: 'INVALID_STATE', retryable: true });
    guest.write(2);
    await guest.end();
    await pools.ensureSnapshot(taking);
    write(id, 3);
    expect([await snapHolds(id, snapshot, 2), holds(id, 3)]).toEqual([true, true]);
  });

  test('what QEMU has come to open late is not removed by who asks again', async () => {
    const id = await make();
    const guest = await start(id);
    const snapshot = snapshotName();
    const taking = { poolId, id, snapshot, tags: tags(snapshot) };
    const putting = async (file: string) => {
      await guest.put(file);
      return dies();
    };
    await expect(pools.ensureSnapshot(taking, { ...guest, put: putting })).rejects.toThrow('ended');
    const before = { ...guest, chain: async () => [fileOf(id)] };
    const { ino } = statSync(topOf(id, snapshot));
    for (const again of [pools.ensureSnapshot, pools.ensureSnapshotAbsent])
      await expect(again(taking, before)).rejects.toMatchObject({ code: 'INVALID_STATE', retryable: true });
    expect(statSync(topOf(id, snapshot)).ino).toBe(ino);
  });

  test('layers that clones of other snapshots read through are left alone while the guest runs', async () => {
    const id = await make();
    const guest = await start(id);
    const taken: string[] = [];
    for (const mark of [1, 2, 3]) {
      guest.write(mark);
      taken.push(await snapUnder(id, guest));
    }
    const [first, , third] = taken as [string, string, string];
    const copy = await clone(id, third);
    const gone = () => pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }, guest);
    await gone();
    expect([(await guest.chain()).length, holds(copy, 3)]).toEqual([4, true]);
    await pools.ensureExpunged({ poolId, id: copy });
    await gone();
    expect(await guest.chain()).toHaveLength(3);
  });

  test('layers that clones live on stay as they are', async () => {
    const id = await make();
    const guest = await start(id);
    const taken: string[] = [];
    for (const mark of [1, 2, 3]) {
      guest.write(mark);
      taken.push(await snapUnder(id, guest));
    }
    const [first, second] = taken as [string, string];
    const [ofFirst, ofSecond] = [await clone(id, first), await clone(id, second)];
    for (const snapshot of [first, second]) await pools.ensureSnapshotAbsent({ poolId, id, snapshot }, guest);
    expect([holds(ofFirst, 1), holds(ofSecond, 2), guest.holds(3)]).toEqual([true, true, true]);
    await guest.end();
  });

  test('wherever an agent ends that snaps under a guest, it can be asked again or undo it, and the guest may have ended', async () => {
    for (const then of ['again', 'undo', 'ended, again', 'ended, undo'] as const) {
      const deaths = await endingAnywhere(async (work) => {
        const id = await make();
        let guest: QemuGuest | undefined = await start(id);
        guest.write(1);
        const first = await snapUnder(id, guest);
        guest.write(2);
        const snapshot = snapshotName();
        const taking = { poolId, id, snapshot, tags: tags(snapshot) };
        await work(pools.ensureSnapshot(taking, guest));
        guest.write(3, 65_536);
        if (then.startsWith('ended')) {
          await guest.end();
          guest = undefined;
        }
        if (then.endsWith('again')) await pools.ensureSnapshot(taking, guest);
        else await pools.ensureSnapshotAbsent({ poolId, id, snapshot }, guest);
        if (guest) expect([guest.holds(2), guest.holds(3, 65_536)]).toEqual([true, true]);
        await guest?.end();
        expect((await pools.pathOf({ poolId, of: 'volume', id })).path).toBe(fileOf(id));
        expect([holds(id, 2), holds(id, 3, 65_536), await snapHolds(id, first, 1)], then).toEqual([true, true, true]);
        if (then.endsWith('again')) expect(await snapHolds(id, snapshot, 2)).toBe(true);
        for (const one of [first, snapshot]) await pools.ensureSnapshotAbsent({ poolId, id, snapshot: one });
        expect([filesOf(id), parts()], then).toEqual([[`${id}.qcow2`], []]);
        expect([holds(id, 2), holds(id, 3, 65_536)]).toEqual([true, true]);
        await pools.ensureExpunged({ poolId, id });
      });
      expect(deaths).toBeGreaterThan(3);
    }
  }, 240_000);

  test('wherever an agent ends that joins layers under a guest, nothing is lost', async () => {
    for (const then of ['again', 'ended'] as const) {
      const deaths = await endingAnywhere(async (work) => {
        const id = await make();
        const guest = await start(id);
        const taken: string[] = [];
        for (const mark of [1, 2, 3]) {
          guest.write(mark);
          taken.push(await snapUnder(id, guest));
        }
        const [first, second, third] = taken as [string, string, string];
        guest.write(4, 65_536);
        await work(pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }, guest));
        guest.write(5, 131_072);
        if (then === 'again') await pools.ensureSnapshotAbsent({ poolId, id, snapshot: first }, guest);
        else await guest.end();
        await guest.end();
        await pools.ensureSnapshotAbsent({ poolId, id, snapshot: first });
        expect([holds(id, 3), holds(id, 4, 65_536), holds(id, 5, 131_072)]).toEqual([true, true, true]);
        expect([await snapHolds(id, second, 2), await snapHolds(id, third, 3)]).toEqual([true, true]);
        for (const snapshot of [second, third]) await pools.ensureSnapshotAbsent({ poolId, id, snapshot });
        expect([filesOf(id), parts()]).toEqual([[`${id}.qcow2`], []]);
        await pools.ensureExpunged({ poolId, id });
      });
      expect(deaths).toBeGreaterThan(3);
    }
  }, 240_000);
});
