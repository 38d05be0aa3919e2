/** The wire of the simulated hosts: the agent's protocol under `/<hostName>/v1/…` of one port, and the admin path `/_sim/…`. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AgentClock } from '../../host-agent/clock.ts';
import {
  AGENT_PROBLEM_STATUS,
  type AgentHealth,
  BEAT_SECONDS,
  type CallName,
  type HostEvent,
  type HostInventory,
  isQuestion,
  type TaskName,
} from '../../host-agent/protocol.ts';
import {
  CLOCK_HEADER,
  LEASE_HEADER,
  type Lease,
  momentText,
  readLease,
  readMoment,
  readStep,
  STEP_HEADER,
  UNTIL_HEADER,
} from '../../host-agent/stamp.ts';
import type { Faults, Rule } from './faults.ts';
import {
  calls,
  crash,
  type Domain,
  type DomainRecord,
  findDomain,
  forget,
  type Host,
  halt,
  hello,
  inventory,
  isActive,
  recordOf,
  renewAgent,
  serialOf,
  type World,
} from './host.ts';
import { ProblemError, problemOf, refuse } from './problem.ts';
import { cancelTask, startTask, taskChange, tasks } from './tasks.ts';

export interface HostRecord extends Pick<HostInventory, 'ports' | 'secrets' | 'files' | 'tasks'> {
  domains: Record<string, DomainRecord>;
  chassis: string | null;
}

/** What the admin path can do to the world; the in-process simulator offers the same. */
export interface Admin {
  crashHost(name: string): void;
  /** `quietly` drops what is sent and breaks no connection: what has come in already stays where it is held up. */
  partitionHost(name: string, quietly?: boolean): void;
  healHost(name: string): void;
  /** Crashes it for good: its disk is lost too. */
  scrapHost(name: string): void;
  /** It answers under another name from now on; under the old one nobody does. */
  moveHost(name: string, to: string): void;
  restartAgent(name: string): void;
  guestPowerOff(name: string, domainId: string): void;
  guestCrash(name: string, domainId: string): void;
  /** Tells those who follow the host's events something, true or not: such as what was so before, and is told late. */
  tellEvent(name: string, event: Pick<HostEvent, 'type' | 'domainId' | 'domains' | 'reason'>): void;
  writeToImage(pool: string, image: string, content: string): void;
  inventory(): unknown;
}

export interface HostServer extends Omit<Admin, 'writeToImage' | 'inventory'> {
  server: http.Server;
  /** What steps asked of hosts that changes something, the newest last. */
  messages(): Message[];
  /** By host name; hosts that hold nothing are left out. */
  record(): Record<string, HostRecord>;
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

/** `admin` answers late because it needs what this function makes. */
export function createHostServer(world: World, faults: Faults, admin: () => Admin): HostServer {
  /** Answers that are still open, by host: a crash or partition cuts them. */
  const open = new Map<Host, Set<ServerResponse>>();
  const messages: Message[] = [];
  /** Streams of events that say under which lease they listen. */
  const listening = new Map<ServerResponse, { host: Host; lease: Lease }>();

  /** As an agent does, when the message has come in whole and nothing more is waited for. */
  function admit(host: Host, { headers }: IncomingMessage, name: string, changes: boolean): void {
    const lease = readLease(String(headers[LEASE_HEADER] ?? ''));
    const step = readStep(String(headers[STEP_HEADER] ?? ''));
    const until = readMoment(String(headers[UNTIL_HEADER] ?? ''));
    if (changes && (!lease || !step || !until))
      throw refuse('INVALID_ARGUMENT', `${name} changes something and does not say on whose behalf, and until when`);
    if (!lease) return;
    const verdict = host.fence.admit(lease, step);
    const refusal = 'refusal' in verdict ? verdict.refusal : until ? host.clock.refusal(until) : null;
    const isRefused = refusal !== null;
    if (changes && step) {
      messages.push({ host: host.name, name, operationId: step.operationId, isRefused });
      if (messages.length > rememberedMessages) messages.splice(0, rememberedMessages / 2);
    }
    if (isRefused) throw refuse('SUPERSEDED', refusal, true);
    for (const [response, listener] of listening)
      if (listener.host === host && listener.lease.shard === lease.shard && listener.lease.epoch < lease.epoch)
        response.destroy();
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
    if (path[1] === '_sim') return serveAdmin(request, response, path.slice(2));
    const host = world.findHost(path[1] ?? '');
    if (!host) {
      const problem = refuse('BACKEND_UNAVAILABLE', `No host ${path[1]} was declared`).problem;
      return answer(response, problem, 404);
    }
    if (host.connection !== 'up') return cut(response);
    hold(host, response);
    clocks.set(response, host.clock);
    if (path[2] !== 'v1') throw refuse('NOT_SUPPORTED', `Unknown path ${url}`);
    const name = path[4] ?? '';
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
    throw refuse('NOT_SUPPORTED', `Unknown path ${request.method} ${url}`);
  }

  async function serveCall(
    host: Host,
    name: string,
    input: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    if (!Object.hasOwn(calls, name)) throw refuse('NOT_SUPPORTED', `Unknown call ${name}`);
    const before = faults.strike(host.name, [name], 'before', () => goneSignal(response), input);
    if (before && (await before) === 'drop') return cut(response);
    if (host.connection !== 'up') return cut(response);
    admit(host, request, name, !isQuestion(name as CallName));
    const result = await (calls[name as CallName] as (host: Host, input: unknown) => unknown)(host, input);
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
    const { name, input } = body as { name: string; input: unknown };
    if (!Object.hasOwn(tasks, name)) throw refuse('NOT_SUPPORTED', `Unknown task ${name}`);
    const gone = () => goneSignal(response);
    const known = host.tasks.get(id)?.task.state;
    if (known !== 'running' && known !== 'succeeded') {
      const before = faults.strike(host.name, [name], 'before', gone, input);
      if (before && (await before) === 'drop') return cut(response);
      if (host.connection !== 'up') return cut(response);
    }
    admit(host, request, name, true);
    const live = startTask(host, id, name as TaskName, input, (signal) => {
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
    admit(host, request, 'events', false);
    const lease = readLease(String(request.headers[LEASE_HEADER] ?? ''));
    if (lease) listening.set(response, { host, lease });
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    const listener = (event: HostEvent) => response.write(`${JSON.stringify(event)}\n`);
    listener(hello(host));
    host.listeners.add(listener);
    streams.set(response, { host, tellsClock });
    response.on('close', () => {
      host.listeners.delete(listener);
      streams.delete(response);
      listening.delete(response);
    });
  }

  function serveSerialLog(host: Host, id: string, query: URLSearchParams, response: ServerResponse): void {
    const serial = serialOf(host, id);
    const said = (query.get('arrived') === 'true' ? '' : serial.earlier) + serial.text;
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    if (query.get('follow') !== 'true') return void response.end(said);
    response.flushHeaders();
    if (said !== '') response.write(said);
    serial.readers.add(response);
    response.on('close', () => serial.readers.delete(response));
  }

  // ── Admin ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async function serveAdmin(request: IncomingMessage, response: ServerResponse, path: string[]): Promise<void> {
    const body = (await readJson(request)) as Record<string, unknown>;
    const word = (field: string) => String(body[field] ?? '');
    const [first = '', second = '', third = ''] = path;
    switch (`${request.method} ${first}`) {
      case 'GET inventory':
        return answer(response, admin().inventory());
      case 'GET messages':
        return answer(response, messages);
      case 'GET rules':
        return answer(response, faults.list());
      case 'POST rules':
        return answer(response, { id: faults.add(checkRule(body)) });
      case 'DELETE rules':
        if (second === '') faults.clear();
        else faults.remove(second);
        return answer(response, {});
      case 'PUT latency':
        faults.setLatency(word('call') || '*', Number(body.ms));
        return answer(response, {});
      case 'PUT migration':
        world.settings.migrationMs = Number(body.ms);
        return answer(response, {});
      case 'PUT shutDown':
        world.settings.shutDownMs = Number(body.ms);
        return answer(response, {});
      case 'POST ceph':
        admin().writeToImage(word('pool'), word('image'), word('content'));
        return answer(response, {});
      case 'POST hosts':
        switch (third) {
          case 'crash':
            crashHost(second);
            return answer(response, {});
          case 'partition':
            partitionHost(second, body.quietly === true);
            return answer(response, {});
          case 'heal':
            healHost(second);
            return answer(response, {});
          case 'scrap':
            scrapHost(second);
            return answer(response, {});
          case 'move':
            moveHost(second, word('to'));
            return answer(response, {});
          case 'restartAgent':
            restartAgent(second);
            return answer(response, {});
          case 'guestPowerOff':
            guestPowerOff(second, word('domainId'));
            return answer(response, {});
          case 'guestCrash':
            guestCrash(second, word('domainId'));
            return answer(response, {});
          case 'tellEvent':
            tellEvent(second, body as unknown as HostEvent);
            return answer(response, {});
        }
    }
    throw refuse('NOT_SUPPORTED', `Unknown path ${request.method} /_sim/${path.join('/')}`);
  }

  function declared(name: string): Host {
    const host = world.findHost(name);
    if (!host) throw refuse('NOT_FOUND', `No host ${name} was declared`);
    return host;
  }

  function cutAll(host: Host): void {
    for (const response of open.get(host) ?? []) cut(response);
    open.delete(host);
  }

  function crashHost(name: string): void {
    const host = declared(name);
    host.connection = 'crashed';
    cutAll(host);
    crash(host);
  }

  function partitionHost(name: string, quietly = false): void {
    const host = declared(name);
    if (host.connection === 'up') host.connection = 'partitioned';
    if (!quietly) cutAll(host);
  }

  function healHost(name: string): void {
    const host = declared(name);
    host.connection = 'up';
    world.network.chassisJoined(host);
  }

  function scrapHost(name: string): void {
    crashHost(name);
    const host = declared(name);
    for (const domain of [...host.domains.values()]) forget(host, domain);
    // Its chassis in OVN is removed by whoever deletes it.
    Object.assign(host, { hypervisor: null, switch: null });
    host.clusters.clear();
  }

  function moveHost(name: string, to: string): void {
    const host = declared(name);
    cutAll(host);
    world.hosts.set(to, host);
    world.hosts.delete(name);
    declared(name).connection = 'crashed';
  }

  function restartAgent(name: string): void {
    const host = declared(name);
    cutAll(host);
    renewAgent(host);
  }

  function activeDomain(host: Host, id: string): Domain {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    return domain;
  }

  function guestPowerOff(name: string, domainId: string): void {
    const host = declared(name);
    halt(host, activeDomain(host, domainId), 'off', 'shutdown');
  }

  function guestCrash(name: string, domainId: string): void {
    const host = declared(name);
    halt(host, activeDomain(host, domainId), 'crashed', 'crashed');
  }

  function tellEvent(name: string, event: Pick<HostEvent, 'type' | 'domainId' | 'domains' | 'reason'>): void {
    const host = declared(name);
    for (const listener of host.listeners) listener({ ...hello(host), ...event });
  }

  function hold(host: Host, response: ServerResponse): void {
    const held = open.get(host);
    if (held) held.add(response);
    else open.set(host, new Set([response]));
    response.on('close', () => open.get(host)?.delete(response));
  }

  function record(): Record<string, HostRecord> {
    const records: Record<string, HostRecord> = {};
    const sorted = [...world.hosts.values()].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    for (const host of sorted) {
      const { ports, secrets, files, tasks: running } = inventory(host);
      const domains = recordOf(host);
      const chassis = host.switch?.systemId ?? null;
      if (Object.keys(domains).length + secrets.length + files.length + running.length === 0 && chassis === null)
        continue;
      records[host.name] = { domains, ports, secrets, files, tasks: running, chassis };
    }
    return records;
  }

  return {
    server,
    crashHost,
    partitionHost,
    healHost,
    scrapHost,
    moveHost,
    restartAgent,
    guestPowerOff,
    guestCrash,
    tellEvent,
    messages: () => messages,
    record,
  };
}

function checkRule(body: Record<string, unknown>): Rule {
  const { when, action } = body;
  if (when !== 'before' && when !== 'after') throw refuse('INVALID_ARGUMENT', '`when` is before or after');
  if (action !== 'fail' && action !== 'hang' && action !== 'delay' && action !== 'drop')
    throw refuse('INVALID_ARGUMENT', '`action` is fail, hang, delay or drop');
  return { ...body, when, action };
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  if (chunks.length === 0) return {};
  const text = (chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))?.toString('utf8') ?? '';
  try {
    return JSON.parse(text);
  } catch {
    throw refuse('INVALID_ARGUMENT', 'The body is not JSON');
  }
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
  if (!(error instanceof ProblemError) && error instanceof Error) process.stderr.write(`simulator: ${error.stack}\n`);
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
