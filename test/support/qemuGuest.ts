/** A QEMU that has a volume of a pool of files open, asked through its monitor for what libvirt asks of it. It boots nothing. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { backingName, type GuestDisk } from '../../host-agent/agent/files.ts';

export interface QemuGuest extends GuestDisk {
  write(mark: number, at?: number): void;
  holds(mark: number, at?: number): boolean;
  /** As at a loss of power, too: what it has written is on its disk. */
  end(): Promise<void>;
}

interface Layer {
  node: string;
  path: string;
}

export async function openInQemu(volume: string): Promise<QemuGuest> {
  // QEMU's block layer without a machine around it, which starts in a tenth of the time.
  const qemu: ChildProcess = spawn(
    'qemu-storage-daemon',
    ['--chardev', 'stdio,id=monitor', '--monitor', 'chardev=monitor'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = new Promise<void>((resolve) => qemu.once('exit', () => resolve()));
  const answers: ((answer: { return?: unknown; error?: { desc: string } }) => void)[] = [];
  if (!qemu.stdout) throw new Error('QEMU has no output');
  createInterface({ input: qemu.stdout }).on('line', (line) => {
    const said = JSON.parse(line);
    if ('return' in said || 'error' in said) answers.shift()?.(said);
  });
  const ask = async <Result>(execute: string, given: object = {}): Promise<Result> => {
    const answered = new Promise<{ return?: unknown; error?: { desc: string } }>((resolve) => answers.push(resolve));
    qemu.stdin?.write(`${JSON.stringify({ execute, arguments: given })}\n`);
    const { error, return: result } = await answered;
    if (error) throw new Error(`${execute}: ${error.desc}`);
    return result as Result;
  };

  let count = 0;
  const add = async (path: string, backing: string | null, readOnly: boolean): Promise<Layer> => {
    const node = `layer${count++}`;
    await ask('blockdev-add', {
      driver: 'qcow2',
      'node-name': node,
      'read-only': readOnly,
      'auto-read-only': true,
      // No test loses power, and waiting for the disk is most of the time that it takes.
      cache: { 'no-flush': true },
      file: { driver: 'file', filename: path, locking: 'on', 'auto-read-only': true },
      backing,
    });
    return { node, path };
  };

  await ask('qmp_capabilities');
  const paths = [volume];
  for (let below = await backingName(volume); below !== undefined; below = await backingName(paths[0] ?? ''))
    paths.unshift(join(dirname(volume), below));
  /** The one that it writes to first. */
  let layers: Layer[] = [];
  for (const path of paths) layers.unshift(await add(path, layers[0]?.node ?? null, path !== volume));

  const top = (): Layer => layers[0] ?? { node: '', path: '' };
  // What is done to the disk comes from outside, as from a guest: it goes to whatever is on top.
  const socket = join(tmpdir(), `qemu-${randomUUID()}`);
  await ask('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await ask('block-export-add', { type: 'nbd', id: 'disk', name: 'disk', 'node-name': top().node, writable: true });
  const io = (...commands: string[]): string =>
    execFileSync(
      'qemu-io',
      ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), `nbd+unix:///disk?socket=${socket}`],
      { encoding: 'utf8' },
    );

  return {
    chain: async () => layers.map(({ path }) => path),
    async put(path) {
      const next = await add(path, null, false);
      await ask('blockdev-snapshot', { node: top().node, overlay: next.node });
      layers.unshift(next);
    },
    async join(files) {
      const [above, below] = [files.top, files.base].map((path) => layers.find((layer) => layer.path === path));
      const reader = layers[above ? layers.indexOf(above) - 1 : -1];
      if (!above || !below || !reader) throw new Error('it has no such layers');
      const name = await backingName(above.path);
      await ask('block-commit', {
        'job-id': 'join',
        device: top().node,
        'top-node': above.node,
        'base-node': below.node,
        'backing-file': name,
      });
      while ((await ask<unknown[]>('query-block-jobs')).length > 0) await new Promise(setImmediate);
      await ask('blockdev-del', { 'node-name': above.node });
      layers = layers.filter((layer) => layer !== above);
      return true;
    },
    write: (mark, at = 0) => void io(`write -P ${mark} ${at} 64k`, 'flush'),
    holds: (mark, at = 0) => !/verification failed/i.test(io(`read -P ${mark} ${at} 64k`)),
    async end() {
      if (qemu.exitCode === null && qemu.signalCode === null) qemu.kill('SIGKILL');
      await ended;
      rmSync(socket, { force: true });
    },
  };
}
