import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { AgentError, connectHost, type HostConnection } from '../../../host-agent/connection.ts';
import type { HostEvent } from '../../../host-agent/protocol.ts';
import { CLOCK_HEADER, MESSAGE_SECONDS, momentText, UNTIL_HEADER } from '../../../host-agent/stamp.ts';

type Answer = (request: http.IncomingMessage, response: http.ServerResponse, body: string) => void;

const health = { agent: 'v', bootId: 'b', hostname: 'h', libvirt: true, switch: true };
const migration = {
  id: 'i',
  targetAddress: '10.0.0.2',
  cephUsers: {},
  bandwidthBytesPerSec: null,
  autoConverge: false,
};
const stamp = {
  lease: { shard: 17, epoch: 1_764_000_000_000 },
  step: { operationId: '0b7a', index: 3, round: 2, attempt: 4 },
};
/** The try is the present one. */
const present = async (): Promise<void> => {};
let server: http.Server | undefined;
let connection: HostConnection | undefined;

/** A simulated host that answers what the test says, by method and path. */
async function hostThat(answers: Record<string, Answer>): Promise<HostConnection> {
  server = http.createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const door = `${request.method} ${request.url?.replace('/host7', '').replace(/\?.*/, '')}`;
    const answer =
      answers[door] ?? (door === 'GET /v1/health' ? ok(health) : problem(404, 'NOT_FOUND', 'nothing here'));
    answer(request, response, body);
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  connection = await connectHost({ address: `sim://127.0.0.1:${(server.address() as AddressInfo).port}/host7` });
  return connection;
}

const ok =
  (value: unknown): Answer =>
  (_request, response) =>
    response.writeHead(200).end(JSON.stringify(value));
const problem =
  (status: number, code: string, message: string, retryable = false): Answer =>
  (_request, response) =>
    response.writeHead(status).end(JSON.stringify({ code, message, retryable }));

afterEach(async () => {
  await connection?.close();
  server?.closeAllConnections();
  await new Promise((resolve) => server?.close(resolve));
});

describe('what changes something', () => {
  const reset = 'POST /v1/calls/domain.reset';
  const clock = (ms: number, life = 'b') => ({ [CLOCK_HEADER]: momentText({ life, ms }) });

  it('says until when: some seconds after what the clock of the host said before the try was known to be the present one', async () => {
    let now = 1_000;
    const sent: unknown[] = [];
    const host = await hostThat({
      'GET /v1/health': (_, response) => response.writeHead(200, clock(now)).end(JSON.stringify(health)),
      [reset]: (request, response) => {
        sent.push(request.headers[UNTIL_HEADER]);
        response.writeHead(200, clock(now)).end('{}');
      },
    });
    const inStep = host.as(stamp, async () => {
      now += 500_000;
    });
    await inStep.call('domain.reset', { id: 'x' });
    await inStep.call('domain.reset', { id: 'x' });
    expect(sent).toEqual(Array(2).fill(`b/${1_000 + MESSAGE_SECONDS * 1_000}`));
  });

  it('is not sent when the try is not the present one any more', async () => {
    let sent = 0;
    const host = await hostThat({
      [reset]: () => {
        sent += 1;
      },
    });
    const overtaken = host.as(stamp, async () => {
      throw new Error('another try');
    });
    await expect(overtaken.call('domain.reset', { id: 'x' })).rejects.toThrow('another try');
    await expect(overtaken.runTask('domain.shutDown', 't', { id: 'i', timeoutSeconds: 1 })).rejects.toThrow('another');
    expect(sent).toBe(0);
  });

  it('is sent anew, if the try still is the present one, when it came too late or to another life of the agent', async () => {
    let now = clock(1_000);
    const sent: unknown[] = [];
    let confirmed = 0;
    const host = await hostThat({
      'GET /v1/health': (_, response) => response.writeHead(200, now).end(JSON.stringify(health)),
      [reset]: (request, response) => {
        sent.push(request.headers[UNTIL_HEADER]);
        now = [clock(900_000), clock(5, 'c')][sent.length - 1] ?? now;
        if (sent.length === 3) return response.writeHead(200, now).end('{}');
        return response
          .writeHead(409, now)
          .end(JSON.stringify({ code: 'SUPERSEDED', message: 'too late', retryable: true }));
      },
    });
    await host
      .as(stamp, async () => {
        confirmed += 1;
      })
      .call('domain.reset', { id: 'x' });
    expect(sent).toEqual(['b/7000', 'b/906000', 'c/6005']);
    expect(confirmed).toBe(3);
  });
});

describe('a call', () => {
  it('brings the answer, or the problem with its code', async () => {
    const host = await hostThat({
      'POST /v1/calls/domain.status': ok({ state: 'off', reason: 'shutdown' }),
      'POST /v1/calls/domain.reset': problem(409, 'INVALID_STATE', 'it is off', true),
    });
    expect(await host.call('domain.status', { id: 'x' })).toEqual({ state: 'off', reason: 'shutdown' });
    await expect(host.as(stamp, present).call('domain.reset', { id: 'x' })).rejects.toMatchObject({
      name: 'AgentError',
      code: 'INVALID_STATE',
      retryable: true,
      message: 'it is off',
    });
  });

  it('ends with TIMEOUT when the host hangs, and with the reason when it is aborted', async () => {
    const host = await hostThat({ 'POST /v1/calls/domain.status': () => {} });
    await expect(host.call('domain.status', { id: 'x' }, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      retryable: true,
    });
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('no longer wanted')), 20);
    await expect(host.call('domain.status', { id: 'x' }, { signal: controller.signal })).rejects.toThrow(
      'no longer wanted',
    );
  });

  it('ends with HOST_UNREACHABLE when nobody is there, or the connection was closed', async () => {
    await expect(connectHost({ address: 'sim://127.0.0.1:1/x' })).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      retryable: true,
    });
    const host = await hostThat({ 'POST /v1/calls/domain.status': () => {} });
    const pending = host.call('domain.status', { id: 'x' });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await host.close();
    await expect(pending).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    await expect(host.call('domain.status', { id: 'x' })).rejects.toBeInstanceOf(AgentError);
    expect(await host.closed).toBeUndefined();
  });

  it('holds up no other while it watches, however many do', async () => {
    const watching: http.ServerResponse[] = [];
    const host = await hostThat({
      'POST /v1/calls/peer.probe': (_, response) => void watching.push(response),
      'POST /v1/calls/domain.status': ok({ state: 'running', reason: 'booted' }),
    });
    const asked = Array.from({ length: 200 }, () => host.call('peer.probe', { addresses: [], withinMs: 20_000 }));
    await expect.poll(() => watching.length).toBe(200);
    expect(await host.call('domain.status', { id: 'x' })).toEqual({ state: 'running', reason: 'booted' });
    for (const response of watching) response.writeHead(200).end(JSON.stringify({ signs: ['silent'] }));
    expect(await Promise.all(asked)).toHaveLength(200);
  });

  it('is asked again when a kept channel had died', async () => {
    let asked = 0;
    const host = await hostThat({
      'POST /v1/calls/domain.status': (request, response) => {
        asked += 1;
        if (asked === 2) request.socket.destroy();
        else ok({ state: 'off', reason: '' })(request, response, '');
      },
    });
    await host.call('domain.status', { id: 'x' });
    await new Promise((resolve) => setImmediate(resolve)); // the channel goes back to the kept ones after its answer
    expect(await host.call('domain.status', { id: 'x' })).toMatchObject({ state: 'off' });
    expect(asked).toBe(3);
  });
});

describe('a task', () => {
  const task = (state: string, progress: number, more = {}) => ({
    id: 't',
    name: 'domain.migrate',
    state,
    progress,
    ...more,
  });
  const result = { downtimeMs: 1, totalMs: 2, transferredBytes: 3 };

  it('is followed to its end, progress told once each', async () => {
    const steps = [task('running', 10), task('running', 10), task('running', 60), task('succeeded', 100, { result })];
    const seen: number[] = [];
    const host = await hostThat({
      'PUT /v1/tasks/t': (_request, response, body) => {
        expect(JSON.parse(body)).toEqual({ name: 'domain.migrate', input: migration });
        response.end(JSON.stringify(task('running', 0)));
      },
      'GET /v1/tasks/t': (_request, response) => response.end(JSON.stringify(steps.shift())),
    });
    const answer = await host.as(stamp, present).runTask('domain.migrate', 't', migration, {
      onProgress: (percent) => seen.push(percent),
    });
    expect(answer).toEqual(result);
    expect(seen).toEqual([0, 10, 60]);
  });

  it('is started again when the agent restarted and forgot it', async () => {
    let starts = 0;
    let looks = 0;
    const host = await hostThat({
      'PUT /v1/tasks/t': (_request, response) => {
        starts += 1;
        response.end(JSON.stringify(starts === 1 ? task('running', 5) : task('succeeded', 100, { result })));
      },
      'GET /v1/tasks/t': (request, response, body) => {
        looks += 1;
        problem(404, 'NOT_FOUND', 'no such task')(request, response, body);
      },
    });
    expect(await host.as(stamp, present).runTask('domain.migrate', 't', migration)).toEqual(result);
    expect([starts, looks]).toEqual([2, 1]);
  });

  it('may be tried again when it fails after it was forgotten: the one that was forgotten may have done it', async () => {
    const refused = { problem: { code: 'NOT_FOUND', message: 'no such guest', retryable: false } };
    const missing = { code: 'NOT_FOUND', message: 'no such guest' };
    let starts = 0;
    const host = await hostThat({
      'PUT /v1/tasks/t': (_request, response) => {
        starts += 1;
        response.end(JSON.stringify(starts === 1 ? task('running', 5) : task('failed', 5, refused)));
      },
      'GET /v1/tasks/t': problem(404, 'NOT_FOUND', 'no such task'),
    });
    const run = () => host.as(stamp, present).runTask('domain.migrate', 't', migration);
    await expect(run()).rejects.toMatchObject({ ...missing, retryable: true });
    // The next try was not forgotten.
    await expect(run()).rejects.toMatchObject({ ...missing, retryable: false });
  });

  it('is cancelled with its caller, whose reason comes back', async () => {
    const calls: string[] = [];
    const controller = new AbortController();
    const host = await hostThat({
      'PUT /v1/tasks/t': ok(task('running', 5)),
      'GET /v1/tasks/t': () => {
        calls.push('GET');
        controller.abort(new Error('operator changed his mind'));
      },
      'DELETE /v1/tasks/t': (request, response, body) => {
        calls.push('DELETE');
        ok(task('cancelled', 5))(request, response, body);
      },
    });
    const following = host.as(stamp, present).runTask('domain.migrate', 't', migration, { signal: controller.signal });
    await expect(following).rejects.toThrow('changed his mind');
    expect(calls).toEqual(['GET', 'DELETE']);
  });

  it('that had succeeded before the cancel counts as done', async () => {
    const controller = new AbortController();
    const host = await hostThat({
      'PUT /v1/tasks/t': ok(task('running', 5)),
      'GET /v1/tasks/t': () => controller.abort(new Error('too late')),
      'DELETE /v1/tasks/t': ok(task('succeeded', 100, { result })),
    });
    expect(
      await host.as(stamp, present).runTask('domain.migrate', 't', migration, { signal: controller.signal }),
    ).toEqual(result);
  });

  it('that failed throws its problem', async () => {
    const failed = { problem: { code: 'TIMEOUT', message: 'the guest does not care', retryable: false } };
    const host = await hostThat({ 'PUT /v1/tasks/t': ok(task('failed', 50, failed)) });
    await expect(
      host.as(stamp, present).runTask('domain.shutDown', 't', { id: 'i', timeoutSeconds: 1 }),
    ).rejects.toMatchObject({
      code: 'TIMEOUT',
      retryable: false,
    });
  });
});

describe('events', () => {
  it('arrive one by one, and a broken stream is an error', async () => {
    const events = [
      { type: 'hello', sequence: 0 },
      { type: 'domain.stopped', sequence: 1, reason: 'ü' },
    ];
    const host = await hostThat({
      'GET /v1/events': (_request, response) => {
        const bytes = Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
        response.writeHead(200);
        response.write(bytes.subarray(0, 70));
        setTimeout(() => response.end(bytes.subarray(70)), 10);
      },
    });
    const seen: HostEvent[] = [];
    const watching = host.events((event) => seen.push(event), new AbortController().signal);
    await expect(watching).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(seen).toEqual(events);
  });

  it('end quietly when nobody wants them any more', async () => {
    const host = await hostThat({
      'GET /v1/events': (_request, response) => void response.writeHead(200).write('{}\n'),
    });
    const controller = new AbortController();
    await host.events(() => controller.abort(), controller.signal);
  });
});

describe('a serial log', () => {
  it('streams its bytes, or fails with the problem', async () => {
    const host = await hostThat({
      'GET /v1/domains/a/serial': (_request, response) => response.end('booting\r\n'),
    });
    let text = '';
    for await (const chunk of host.serial('a')) text += chunk;
    expect(text).toBe('booting\r\n');
    const failing = host.serial('b');
    await expect(failing.toArray()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a step', () => {
  it('says in everything it sends on whose behalf it speaks, and a bare connection says nothing', async () => {
    const said: Record<string, unknown>[] = [];
    const note =
      (value: unknown): Answer =>
      ({ method, headers }, response) => {
        said.push({ method, lease: headers['belay-lease'], step: headers['belay-step'] });
        response.writeHead(200).end(JSON.stringify(value));
      };
    const task = { id: 't', name: 'domain.shutDown', state: 'running', progress: 0 };
    const host = await hostThat({
      'POST /v1/calls/domain.status': note({ state: 'off', reason: 'shutdown' }),
      'PUT /v1/tasks/t': note(task),
      'GET /v1/tasks/t': note({ ...task, state: 'succeeded', result: {} }),
      'DELETE /v1/tasks/t': note({ ...task, state: 'cancelled' }),
    });
    const mine = { lease: '17:1764000000000', step: '0b7a/3/2.4' };
    const shutDown = { id: 'x', timeoutSeconds: 1 };
    await host.as(stamp, present).call('domain.status', { id: 'x' });
    await host.as(stamp, present).runTask('domain.shutDown', 't', shutDown);
    await expect(
      host
        .as(stamp, present)
        .runTask('domain.shutDown', 't', shutDown, { signal: AbortSignal.abort(new Error('enough')) }),
    ).rejects.toThrow('enough');
    await host.call('domain.status', { id: 'x' });
    expect(said).toEqual([
      { method: 'POST', ...mine },
      { method: 'PUT', ...mine },
      { method: 'GET', ...mine },
      { method: 'DELETE', ...mine },
      { method: 'POST', lease: undefined, step: undefined },
    ]);
  });

  it('is told that it was overtaken, as something that another try may mend', async () => {
    const host = await hostThat({
      'POST /v1/calls/domain.reset': problem(409, 'SUPERSEDED', 'the lease has passed on', true),
    });
    await expect(host.as(stamp, present).call('domain.reset', { id: 'x' })).rejects.toMatchObject({
      code: 'SUPERSEDED',
      retryable: true,
    });
  });
});
