/** What a host can tell of others: a server that speaks, a kernel without one, and a heartbeat that moves. */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { filePools } from '../../../host-agent/agent/files.ts';
import { type Heartbeat, heartbeat } from '../../../host-agent/agent/heartbeat.ts';
import { probePeers } from '../../../host-agent/agent/peers.ts';
import type { Storage } from '../../../host-agent/agent/storage.ts';

const address = '127.0.0.1';
const cleaning: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const clean of cleaning.splice(0).reverse()) await clean();
});

async function serve(greet: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    greet(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  cleaning.push(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

test('each address gets its own sign, in the order in which they were asked', async () => {
  const speaking = await serve((socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'));
  const hanging = await serve(() => {});
  const closing = await serve((socket) => socket.end());
  const nobody = await serve(() => {});
  await cleaning.pop()?.();
  const ports = [hanging, speaking, nobody, closing];
  const { signs } = await probePeers({ addresses: ports.map((port) => ({ address, port })), withinMs: 300 });
  expect(signs).toEqual(['accepts', 'speaks', 'refuses', 'speaks']);
});

describe('a heartbeat in a pool of files', () => {
  const poolId = randomUUID();
  const places = [{ type: 'file' as const, poolId }];
  const [hereId, thereId] = [randomUUID(), randomUUID()];
  let root: string;
  let files: ReturnType<typeof filePools>;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'belay-heartbeat-'));
    // An agent's heart may beat once more meanwhile.
    cleaning.push(() => rm(root, { recursive: true, force: true, maxRetries: 5 }));
    files = filePools({ configuration: join(root, 'etc'), mounts: join(root, 'mounts') });
    await mkdir(join(root, 'pool'));
    await files.connect({ poolId, root: { type: 'sharedMount', path: join(root, 'pool') }, make: true });
  });

  /** One life of an agent; `name` is its host. */
  const agent = (name: string): Heartbeat =>
    heartbeat(
      { files, storage: {} as Storage, log: () => {} },
      { keptAt: join(root, `${name}.json`), bootId: randomUUID() },
    );
  const left = (): Promise<string[]> => readdir(join(root, 'pool', 'heartbeats'));

  test('moves while its host writes it, and others see that; one that nobody ever left says nothing', async () => {
    const [here, there] = [agent('here'), agent('there')];
    await here.ensure({ hostId: hereId, places });
    await there.ensure({ hostId: thereId, places });
    const stranger = randomUUID();
    const asked = { hostIds: [thereId, stranger], places, withinMs: 3_000 };
    // The first of each is on its way to the disk.
    await expect.poll(() => here.watch(asked), { timeout: 20_000 }).toEqual({ moved: [thereId], still: [] });
    expect(here.ageSeconds()).toBeLessThan(5);

    await there.ensure({ hostId: thereId, places: [] });
    expect(await left()).toEqual([hereId]);
    expect(there.ageSeconds()).toBeNull();
    expect(await here.watch({ hostIds: [thereId], places, withinMs: 100 })).toEqual({ moved: [], still: [] });
  });

  test('stands still when its host is gone, as one sees who writes himself; who does not says nothing', async () => {
    const gone = agent('gone');
    await gone.ensure({ hostId: thereId, places });
    const here = agent('here');
    const asked = { hostIds: [thereId], places, withinMs: 100 };
    // Between two of its beats it stands still, too; that it goes on is not what this is about.
    expect((await here.watch(asked)).still).toEqual([]);
    await here.ensure({ hostId: hereId, places });
    await expect.poll(async () => (await here.watch(asked)).still).toEqual([thereId]);
  });

  test('goes on in the next life of the agent, without being asked', async () => {
    await agent('here').ensure({ hostId: hereId, places });
    const next = agent('here');
    await expect.poll(() => next.ageSeconds()).not.toBeNull();
    const there = agent('there');
    await there.ensure({ hostId: thereId, places });
    const asked = { hostIds: [hereId], places, withinMs: 5_000 };
    await expect.poll(() => there.watch(asked), { timeout: 20_000 }).toEqual({ moved: [hereId], still: [] });
  });
});
