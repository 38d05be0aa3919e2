import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type KeptFence, openFence } from '../../../host-agent/agent/fenceFile.ts';
import { keyedMutex } from '../../../host-agent/agent/keyedMutex.ts';
import { requestListener, type Served } from '../../../host-agent/agent/server.ts';
import { taskRegistry } from '../../../host-agent/agent/tasks.ts';
import { agentClock } from '../../../host-agent/clock.ts';
import { createFence } from '../../../host-agent/fence.ts';
import type { HostEvent } from '../../../host-agent/protocol.ts';
import {
  CLOCK_HEADER,
  type Lease,
  type Moment,
  readLease,
  readStep,
  type Stamp,
  type StepTry,
} from '../../../host-agent/stamp.ts';
import { headersOf } from '../simulator/cloud.ts';

const lease = (epoch: number, shard = 1): Lease => ({ shard, epoch });
const stepTry = (round: number, attempt: number, operationId = 'o'): StepTry => ({
  operationId,
  index: 0,
  round,
  attempt,
});

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-fence-'));
  path = join(directory, 'fence.json');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const unreadable: string[] = [];
const open = (): Promise<KeptFence> => openFence(path, (reason) => unreadable.push(reason));
const superseded = { code: 'SUPERSEDED', retryable: true };

describe('a fence', () => {
  it('refuses an older epoch of the same shard, and no other', () => {
    const fence = createFence();
    expect(fence.admit(lease(5))).toEqual({ isNew: true });
    expect(fence.admit(lease(5))).toEqual({ isNew: false });
    expect(fence.admit(lease(4))).toHaveProperty('refusal');
    expect(fence.admit(lease(4, 2))).toEqual({ isNew: true });
    expect(fence.admit(lease(6))).toEqual({ isNew: true });
    expect(fence.admit(lease(5))).toHaveProperty('refusal');
  });

  it('refuses a try of a step after a newer try, and a do after its undo', () => {
    const fence = createFence();
    fence.admit(lease(1), stepTry(1, 1));
    fence.admit(lease(1), stepTry(1, 2));
    expect(fence.admit(lease(1), stepTry(1, 1))).toHaveProperty('refusal');
    fence.admit(lease(1), stepTry(2, 1));
    expect(fence.admit(lease(1), stepTry(1, 9))).toHaveProperty('refusal');
    expect(fence.admit(lease(1), stepTry(2, 1))).toEqual({ isNew: false });
    expect(fence.admit(lease(1), { ...stepTry(1, 1), index: 1 })).toEqual({ isNew: false });
    expect(fence.admit(lease(1), stepTry(1, 1, 'other'))).toEqual({ isNew: false });
  });

  it('has nothing to keep of a first try, and forgets the oldest of very many', () => {
    const fence = createFence();
    fence.admit(lease(1), stepTry(1, 1));
    expect(fence.marks().steps).toEqual({});
    for (let n = 0; n < 5_000; n += 1) fence.admit(lease(1), stepTry(2, 1, `o${n}`));
    expect(Object.keys(fence.marks().steps)).toHaveLength(4_096);
    expect(fence.admit(lease(1), stepTry(1, 1, 'o4999'))).toHaveProperty('refusal');
  });

  it('reads nothing else than what is written', () => {
    for (const text of ['', '1', '1:', ':1', '1:-1', '1:1.5', '1:1 ', '1:9999999999999999'])
      expect(readLease(text), text).toBeUndefined();
    for (const text of ['', 'o', 'o/1', 'o/1/1', 'o/1/1.', '/1/1.1', 'o/1/1.1/2', 'a b/1/1.1', 'o/1/-1.1'])
      expect(readStep(text), text).toBeUndefined();
  });
});

describe("a host's fence", () => {
  it('refuses the same after the agent was started anew', async () => {
    const before = await open();
    await before.admit(lease(7), stepTry(2, 3));
    const after = await open();
    await expect(after.admit(lease(6), stepTry(3, 1))).rejects.toMatchObject(superseded);
    await expect(after.admit(lease(7), stepTry(2, 2))).rejects.toMatchObject(superseded);
    await after.admit(lease(7), stepTry(2, 3));
  });

  it('is on disk before the message is acted on, however many come at once', async () => {
    const fence = await open();
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        await fence.admit(lease(1, n), stepTry(2, 1, `o${n}`));
        const { leases, steps } = JSON.parse(readFileSync(path, 'utf8'));
        expect(leases[n]).toBe(1);
        expect(steps).toHaveProperty([`o${n}/0`], [2, 1]);
      }),
    );
    expect(readdirSync(directory)).toEqual(['fence.json']);
  });

  it('lets an old message through no more that was waiting for the disk when a newer one came', async () => {
    const fence = await open();
    const old = fence.admit(lease(5), stepTry(1, 1));
    const newer = fence.admit(lease(6), stepTry(1, 2));
    await expect(old).rejects.toMatchObject(superseded);
    await newer;
  });

  it('refuses everything when it can not be read, rather than forget', async () => {
    for (const content of [
      '',
      '{',
      'null',
      '[]',
      '{"leases":{"1":"x"},"steps":{}}',
      '{"leases":{},"steps":{"o/0":[1]}}',
    ]) {
      writeFileSync(path, content);
      unreadable.length = 0;
      const fence = await open();
      expect(unreadable, content).toHaveLength(1);
      await expect(fence.admit(lease(9)), content).rejects.toMatchObject({
        code: 'PRECONDITION_FAILED',
        retryable: false,
      });
      expect(readFileSync(path, 'utf8')).toBe(content);
    }
  });

  it('refuses what it can not keep', async () => {
    const fence = await open();
    await fence.admit(lease(1));
    mkdirSync(`${path}.part`);
    await expect(fence.admit(lease(2))).rejects.toThrow();
    await expect(fence.admit(lease(2))).rejects.toThrow();
    rmSync(`${path}.part`, { recursive: true });
    await fence.admit(lease(2));
    expect(JSON.parse(readFileSync(path, 'utf8')).leases).toEqual({ 1: 2 });
  });
});

describe('an agent', () => {
  let server: http.Server | undefined;
  let url: string;
  let isEnding: boolean;
  /** What the clock of the agent says. */
  let elapsedMs: number;
  let life: string;
  /** What was let in, and may still wait for its turn. */
  let admitted: string[];
  let inTurn: ReturnType<typeof keyedMutex>;
  /** What reached the host. */
  let acted: string[];
  const id = '11111111-1111-4111-8111-111111111111';
  const stamp = (epoch: number, attempt = 1): Stamp => ({ lease: lease(epoch), step: stepTry(1, attempt) });

  async function serve(): Promise<void> {
    const act = (name: string | symbol): Promise<Record<string, never>> => {
      admitted.push(String(name));
      return inTurn('everything', async () => {
        acted.push(String(name));
        return {};
      });
    };
    const calls = new Proxy({}, { get: (_, name) => () => act(name) });
    const work = new Proxy({}, { get: (_, name) => () => act(name) });
    const listeners = new Set<(event: HostEvent) => void>();
    const listener = requestListener({
      calls: calls as Served['calls'],
      tasks: taskRegistry(work as Parameters<typeof taskRegistry>[0]),
      events: {
        async subscribe(write) {
          listeners.add(write);
          write({ bootId: 'b', sequence: 0, at: '', type: 'hello', domains: [] });
          return () => listeners.delete(write);
        },
      },
      fence: await open(),
      clock: agentClock(life, () => elapsedMs),
      isEnding: () => isEnding,
      health: () => ({ agent: 'v', bootId: 'b', hostname: 'h', libvirt: true, switch: true }),
      log: () => {},
    });
    server = http.createServer(listener);
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  }
  const end = async (): Promise<void> => {
    server?.closeAllConnections();
    await new Promise((resolve) => server?.close(resolve));
  };
  beforeEach(async () => {
    acted = [];
    isEnding = false;
    admitted = [];
    elapsedMs = 10_000;
    life = 'b';
    inTurn = keyedMutex();
    await serve();
  });
  afterEach(end);

  const until: Moment = { life: 'b', ms: 16_000 };
  const send = async (
    method: string,
    where: string,
    body?: unknown,
    by?: Stamp,
    moment: Moment | null = until,
  ): Promise<string> => {
    const response = await fetch(`${url}/${where}`, {
      method,
      headers: by ? headersOf(by, moment ?? undefined) : {},
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return response.ok ? 'done' : ((await response.json()) as { code: string }).code;
  };
  const reset = (by?: Stamp): Promise<string> => send('POST', 'calls/domain.reset', { id }, by);
  const shutDown = (by?: Stamp): Promise<string> =>
    send('PUT', 'tasks/t', { name: 'domain.shutDown', input: { id, timeoutSeconds: 1 } }, by);

  it('acts on nothing that does not say on whose behalf it comes, and answers questions to all', async () => {
    expect(await reset()).toBe('INVALID_ARGUMENT');
    expect(await shutDown()).toBe('INVALID_ARGUMENT');
    expect(await send('DELETE', 'tasks/t')).toBe('INVALID_ARGUMENT');
    expect(acted).toEqual([]);
    expect(await send('POST', 'calls/domain.status', { id })).toBe('done');
  });

  it('refuses an older lease in every way a message can come, also when it was started anew', async () => {
    expect(await reset(stamp(2))).toBe('done');
    expect(await shutDown(stamp(2))).toBe('done');
    await end();
    await serve();
    acted = [];
    expect(await reset(stamp(1))).toBe('SUPERSEDED');
    expect(await shutDown(stamp(1))).toBe('SUPERSEDED');
    expect(await send('GET', 'tasks/t', undefined, stamp(1))).toBe('SUPERSEDED');
    expect(await send('DELETE', 'tasks/t', undefined, stamp(1))).toBe('SUPERSEDED');
    expect(await send('POST', 'calls/domain.status', { id }, stamp(1))).toBe('SUPERSEDED');
    expect(await send('GET', 'events', undefined, stamp(1))).toBe('SUPERSEDED');
    expect(acted).toEqual([]);
  });

  it('judges a message when it has come in whole, not when it began', async () => {
    const body = JSON.stringify({ id });
    const late = http.request(`${url}/calls/domain.reset`, {
      method: 'POST',
      headers: { ...headersOf(stamp(1), until), 'content-length': body.length },
    });
    const answered = new Promise<number>((resolve) => {
      late.on('response', (response) => resolve(response.resume().statusCode ?? 0));
    });
    await new Promise<void>((resolve) => late.write(body.slice(0, 5), () => resolve()));
    expect(await reset(stamp(2))).toBe('done');
    late.end(body.slice(5));
    expect(await answered).toBe(409);
    expect(acted).toEqual(['domain.reset']);
  });

  it('ends the stream of a listener whose lease has passed on, and only that', async () => {
    const listen = async (epoch: number): Promise<ReadableStreamDefaultReader<Uint8Array>> => {
      const response = await fetch(`${url}/events`, { headers: headersOf(stamp(epoch)) });
      const reader = response.body?.getReader();
      if (!reader) throw new Error('no stream');
      await reader.read();
      return reader;
    };
    const old = await listen(1);
    const present = await listen(2);
    await expect(old.read()).rejects.toThrow();
    const more = present.read();
    expect(await Promise.race([more, reset(stamp(2))])).toBe('done');
    await present.cancel();
  });

  it('acts on no message after the moment that it carries, and answers questions at any time', async () => {
    expect(await send('POST', 'calls/domain.reset', { id }, stamp(1), null)).toBe('INVALID_ARGUMENT');
    elapsedMs = until.ms + 1;
    expect(await reset(stamp(1))).toBe('SUPERSEDED');
    expect(await shutDown(stamp(1))).toBe('SUPERSEDED');
    expect(await send('DELETE', 'tasks/t', undefined, stamp(1))).toBe('SUPERSEDED');
    expect(await send('POST', 'calls/domain.status', { id }, stamp(1), null)).toBe('done');
    elapsedMs = until.ms;
    expect(await reset(stamp(1))).toBe('done');
    expect(acted).toEqual(['domain.status', 'domain.reset']);
  });

  it('acts on no message that was meant for the life of an agent before', async () => {
    await end();
    life = 'c';
    elapsedMs = 0;
    await serve();
    expect(await reset(stamp(1))).toBe('SUPERSEDED');
    expect(acted).toEqual([]);
  });

  it('begins nothing whose turn comes too late', async () => {
    let goOn = (): void => {};
    const ended = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const long = inTurn('everything', () => ended);
    const waiting = reset(stamp(1));
    while (admitted.length === 0) await new Promise(setImmediate);
    elapsedMs = until.ms + 1;
    goOn();
    await long;
    expect(await waiting).toBe('SUPERSEDED');
    expect(acted).toEqual([]);
  });

  it('tells what its clock says with every answer, and with the signs of life of a stream that was asked for it', async () => {
    const { headers } = await fetch(`${url}/health`);
    expect(headers.get(CLOCK_HEADER)).toBe('b/10000');
    for (const [query, sign] of [
      ['', '\n'],
      ['?clock=true', '{"clock":"b/10000"}\n'],
    ]) {
      const stream = await fetch(`${url}/events${query}`);
      const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader();
      await reader?.read();
      expect((await reader?.read())?.value).toBe(sign);
      await reader?.cancel();
    }
  });

  it('begins nothing any more when it is about to end', async () => {
    isEnding = true;
    expect(await reset(stamp(2))).toBe('BACKEND_UNAVAILABLE');
    expect(await send('POST', 'calls/domain.status', { id })).toBe('done');
  });
});
