/** The wire of the simulated hosts: the agent's protocol under `/<hostName>/v1/…` of one port. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AgentClock } from '../../../host-agent/clock.ts';
import { AGENT_PROBLEM_STATUS, Problem } from '../../../host-agent/problem.ts';
import { type AgentHealth, BEAT_SECONDS, type HostEvent, isQuestion } from '../../../host-agent/protocol.ts';
import {
  type Behalf,
  checkCall,
  checkDomainId,
  checkTaskId,
  readBehalf,
  readJson,
  readTask,
} from '../../../host-agent/requests.ts';
import { CLOCK_HEADER, type Lease, momentText } from '../../../host-agent/stamp.ts';
import type { Faults } from '../faults.ts';
import { problemOf, refuse } from '../problem.ts';
import { calls } from './calls.ts';
import { hello } from './events.ts';
import type { Host, HostWorld } from './host.ts';
import { serialOf } from './serial.ts';
import { cancelTask, startTask, taskChange } from './tasks.ts';

export interface HostServer {
  server: http.Server;
  /** What steps asked of hosts that changes something, the newest last. */
  messages(): Message[];
  /** Ends every connection to the host without an answer. */
  cutAll(host: Host): void;
}

/** One message that changes something, at the moment when it was to be acted on. */
export interface Message {
  host: string;
  /** Of a call or task; `cancel` of a task. */
  name: string;
  operationId: string;
  isRefused: boolean;
}

const longestWaitSeconds = 60;
const rememberedMessages = 20_000;

/** `serveAdmin` answers what is asked under `/_sim/…`. */
export function createHostServer(
  world: HostWorld,
  faults: Faults,
  serveAdmin: (request: IncomingMessage, path: string[]) => Promise<unknown>,
): HostServer {
  /** Answers that are still open, by host: a crash or partition cuts them. */
  const open = new Map<Host, Set<ServerResponse>>();
  const messages: Message[] = [];
  /** By host, the streams of events that say under which lease they listen. */
  const listening = new Map<Host, Map<ServerResponse, Lease>>();

  /** As an agent does, when the message has come in whole and nothing more is waited for. */
  function admit(host: Host, request: IncomingMessage, name: string, changes: boolean): Behalf {
    const behalf = readBehalf(request, changes);
    const { lease, step, until } = behalf;
    if (!lease) return behalf;
    const verdict = host.fence.admit(lease, step);
    const refusal = 'refusal' in verdict ? verdict.refusal : until ? host.clock.refusal(until) : null;
    const isRefused = refusal !== null;
    if (changes && step) {
      messages.push({ host: host.name, name, operationId: step.operationId, isRefused });
      if (messages.length > rememberedMessages) messages.splice(0, rememberedMessages / 2);
    }
    if (isRefused) throw refuse('SUPERSEDED', refusal, true);
    for (const [response, its] of listening.get(host) ?? [])
      if (its.shard === lease.shard && its.epoch < lease.epoch) response.destroy();
    return behalf;
  }

  /** Every stream of events, with its host, and whether that tells its clock. One timer gives all of them their sign of life. */
  const streams = new Map<ServerResponse, { host: Host; tellsClock: boolean }>();
  const beat = setInterval(() => {
    for (const [stream, { host, tellsClock }] of streams)
      if (host.connection === 'up')
        stream.write(`${tellsClock ? JSON.stringify({ clock: momentText(host.clock.now()) }) : ''}\n`);
  }, BEAT_SECONDS * 1_000).unref();

  const server = http.createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      if (!response.headersSent) answerProblem(response, error);
      else cut(response);
    });
  });
  // Clients keep their connections; a server that closes idle ones first would race with their next request.
  server.keepAliveTimeout = 600_000;
  server.requestTimeout = 0;
  server.on('close', () => clearInterval(beat));

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '/';
    const queryAt = url.indexOf('?');
    const path = (queryAt < 0 ? url : url.slice(0, queryAt)).split('/');
    const query = new URLSearchParams(queryAt < 0 ? '' : url.slice(queryAt + 1));
    if (path[1] === '_sim') return answer(response, await serveAdmin(request, path.slice(2)));
    const host = world.findHost(path[1] ?? '');
    if (!host)
      return answer(response, problemOf(refuse('BACKEND_UNAVAILABLE', `No host ${path[1]} was declared`)), 404);
    // It is answered never, or when the connection ends.
    if (host.connection === 'frozen') return hold(host, response);
    if (host.connection !== 'up') return cut(response);
    hold(host, response);
    clocks.set(response, host.clock);
    if (path[2] !== 'v1') throw unknownPath(request, path);
    const name = decodeURIComponent(path[4] ?? '');
    if (path[3] === 'tasks') checkTaskId(name);
    switch (`${request.method} ${path[3]}`) {
      case 'POST calls':
        return serveCall(host, name, await readJson(request), request, response);
      case 'PUT tasks':
        return servePutTask(host, name, await readJson(request), request, response);
      case 'GET tasks':
        admit(host, request, 'look', false);
        return serveGetTask(host, name, Number(query.get('waitSeconds') ?? 0), response);
      case 'DELETE tasks': {
        admit(host, request, 'cancel', true);
        const live = findTask(host, name);
        await cancelTask(live);
        return answer(response, live.task);
      }
      case 'GET events':
        return serveEvents(host, query.get('clock') === 'true', request, response);
      case 'GET domains':
        if (path[5] === 'serial') return serveSerialLog(host, name, query, response);
        break;
      case 'GET health': {
        const { bootId, name: hostname } = host;
        const health: AgentHealth = { agent: 'simulated', bootId, hostname, libvirt: true, switch: true };
        return answer(response, health);
      }
    }
    throw unknownPath(request, path);
  }

  async function serveCall(
    host: Host,
    called: string,
    input: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const name = checkCall(called, input);
    const before = faults.strike(host.name, [name], 'before', () => goneSignal(response), input);
    if (before && (await before) === 'drop') return cut(response);
    if (host.connection !== 'up') return cut(response);
    admit(host, request, name, !isQuestion(name));
    const result = await (calls[name] as (host: Host, input: unknown) => unknown)(host, input);
    const after = faults.strike(host.name, [name], 'after', () => goneSignal(response), input);
    if (after && (await after) === 'drop') return cut(response);
    answer(response, result);
  }

  async function servePutTask(
    host: Host,
    id: string,
    body: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { name, input } = readTask(body);
    const gone = () => goneSignal(response);
    const known = host.tasks.get(id)?.task.state;
    if (known !== 'running' && known !== 'succeeded') {
      const before = faults.strike(host.name, [name], 'before', gone, input);
      if (before && (await before) === 'drop') return cut(response);
      if (host.connection !== 'up') return cut(response);
    }
    admit(host, request, name, true);
    const live = startTask(host, id, name, input, (signal) => {
      const after = faults.strike(host.name, [name], 'after', () => signal, input);
      return after?.then((verdict) => {
        if (verdict === 'drop' && !signal.aborted) cut(response);
      });
    });
    // Short work is done by now: one round trip instead of two. A turn of the event loop later, promises have settled.
    await new Promise(setImmediate);
    answer(response, live.task);
  }

  async function serveGetTask(host: Host, id: string, waitSeconds: number, response: ServerResponse): Promise<void> {
    const live = findTask(host, id);
    const left = taskChange(live, Math.min(Math.max(waitSeconds || 0, 0), longestWaitSeconds) * 1000);
    await left;
    answer(response, live.task);
  }

  function findTask(host: Host, id: string) {
    const live = host.tasks.get(id);
    if (!live) throw refuse('NOT_FOUND', `${host.name} knows no task ${id}`);
    return live;
  }

  function serveEvents(host: Host, tellsClock: boolean, request: IncomingMessage, response: ServerResponse): void {
    const { lease } = admit(host, request, 'events', false);
    if (lease) {
      const known = listening.get(host) ?? new Map<ServerResponse, Lease>();
      listening.set(host, known.set(response, lease));
    }
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    const listener = (event: HostEvent) => response.write(`${JSON.stringify(event)}\n`);
    listener(hello(host));
    host.listeners.add(listener);
    streams.set(response, { host, tellsClock });
    response.on('close', () => {
      host.listeners.delete(listener);
      streams.delete(response);
      listening.get(host)?.delete(response);
    });
  }

  function serveSerialLog(host: Host, id: string, query: URLSearchParams, response: ServerResponse): void {
    checkDomainId(id);
    const serial = serialOf(host, id);
    const said = (query.get('arrived') === 'true' ? '' : serial.earlier) + serial.text;
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    if (query.get('follow') !== 'true') return void response.end(said);
    response.flushHeaders();
    if (said !== '') response.write(said);
    serial.readers.add(response);
    response.on('close', () => serial.readers.delete(response));
  }

  function cutAll(host: Host): void {
    for (const response of open.get(host) ?? []) cut(response);
    open.delete(host);
  }

  function hold(host: Host, response: ServerResponse): void {
    const held = open.get(host);
    if (held) held.add(response);
    else open.set(host, new Set([response]));
    response.on('close', () => open.get(host)?.delete(response));
  }

  return { server, messages: () => messages, cutAll };
}

/** Of whose answer it is, what the clock says goes along with it. */
const clocks = new WeakMap<ServerResponse, AgentClock>();

function answer(response: ServerResponse, body: unknown, status = 200): void {
  if (response.destroyed || response.writableEnded) return;
  const text = JSON.stringify(body);
  const clock = clocks.get(response);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...(clock ? { [CLOCK_HEADER]: momentText(clock.now()) } : {}),
  });
  response.end(text);
}

function answerProblem(response: ServerResponse, error: unknown): void {
  const problem = problemOf(error);
  if (!(error instanceof Problem) && error instanceof Error) process.stderr.write(`simulator: ${error.stack}\n`);
  answer(response, problem, AGENT_PROBLEM_STATUS[problem.code]);
}

function cut(response: ServerResponse): void {
  response.socket?.destroy();
}

function goneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  return gone.signal;
}

/** `path` begins with the host's name. */
const unknownPath = ({ method }: IncomingMessage, path: string[]): Problem =>
  refuse('NOT_FOUND', `there is no ${method} /${path.slice(2).join('/')}`);
