import { connect, createServer, type Server, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import ssh2 from 'ssh2';
import { afterEach, describe, expect, it } from 'vitest';
import { openSsh, type SshTarget } from '../../../host-agent/ssh.ts';
import { newSshKey } from '../../../runtime/sshKey.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => server.close());
  return (server.address() as { port: number }).port;
}

/** A server that does this with whoever comes. */
const serverThat = (greets: (socket: Socket) => void): Promise<number> =>
  listening(
    createServer((socket) => {
      closing.push(() => socket.destroy());
      socket.on('error', () => {});
      greets(socket);
    }),
  );

/** A port whose queue of connections is full and never emptied: the system drops whatever else comes, and says nothing. */
async function blackHole(): Promise<number> {
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
     const server = require('node:net').createServer();
     server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
     });`,
    { eval: true },
  );
  closing.push(() => worker.terminate());
  const port = await new Promise<number>((resolve) => worker.once('message', resolve));
  for (let queued = 0; queued < 2; queued++) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    closing.push(() => socket.destroy());
    await new Promise((resolve) => socket.once('connect', resolve));
  }
  return port;
}

/** An SSH server with a key of its own, which nobody may enter. */
async function sshd(): Promise<{ port: number; hostKey: string; logIns: string[] }> {
  const key = newSshKey();
  const logIns: string[] = [];
  const server = new ssh2.Server({ hostKeys: [key.private] }, (client) => {
    closing.push(() => client.end());
    client.on('error', () => {});
    client.on('authentication', (attempt) => {
      logIns.push(attempt.method);
      attempt.reject(['password']);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  closing.push(() => server.close());
  return { port: (server.address() as { port: number }).port, hostKey: key.public, logIns };
}

const target = (port: number, more: Partial<SshTarget> = {}): SshTarget => ({
  address: '127.0.0.1',
  port,
  password: 'x',
  connectTimeoutMs: 200,
  ...more,
});

describe('a host that can not be logged in to', () => {
  it('refuses the connection', async () => {
    const server = createServer();
    const port = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    await expect(openSsh(target(port))).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      retryable: true,
      message: '127.0.0.1 can not be reached: ECONNREFUSED',
    });
  });

  it('lets nothing through', async () => {
    await expect(openSsh(target(await blackHole()))).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: '127.0.0.1 did not answer as an SSH server within 200 ms',
    });
  });

  it('takes the connection and says nothing', async () => {
    await expect(openSsh(target(await serverThat(() => {})))).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: '127.0.0.1 did not answer as an SSH server within 200 ms',
    });
  });

  it('takes the connection and closes it', async () => {
    await expect(openSsh(target(await serverThat((socket) => socket.end())))).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      retryable: true,
    });
  });

  it('speaks something else', async () => {
    const port = await serverThat((socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(openSsh(target(port))).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  });

  it('shows another key than the pinned one, and is sent nothing', async () => {
    const { port, logIns } = await sshd();
    await expect(openSsh(target(port, { hostKey: newSshKey().public }))).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
      retryable: false,
    });
    expect(logIns).toEqual([]);
  });

  it('shows the pinned key and refuses the log-in', async () => {
    const { port, hostKey, logIns } = await sshd();
    await expect(openSsh(target(port, { hostKey }))).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
      retryable: false,
      message: '127.0.0.1 refused the login of root by password',
    });
    expect(logIns).toContain('password');
  });
});
