import type http from 'node:http';
import type { AgentClock } from '../clock.ts';
import { AGENT_PROBLEM_STATUS, type AgentProblem, Problem } from '../problem.ts';
import { type AgentHealth, BEAT_SECONDS, type HostEvent, isQuestion, type Tasks } from '../protocol.ts';
import { checkCall, checkDomainId, checkTaskId, readBehalf, readJson, readTask } from '../requests.ts';
import { CLOCK_HEADER, momentText } from '../stamp.ts';
import { acting, type Deadline } from './acting.ts';
import type { CallHandlers } from './calls.ts';
import type { EventSource } from './events.ts';
import type { KeptFence } from './fenceFile.ts';
import type { Log } from './log.ts';
import { toProblem } from './problem.ts';
import { readSerialLog } from './serial.ts';
import type { TaskRegistry } from './tasks.ts';

export interface Served {
  calls: CallHandlers;
  tasks: TaskRegistry;
  events: EventSource;
  fence: KeptFence;
  clock: AgentClock;
  /** Set when the agent is about to end: its successor must not be worked against. */
  isEnding(): boolean;
  health(): AgentHealth;
  log: Log;
}

const MAX_WAIT_SECONDS = 60;
/** A reader that lags behind this far is cut off; it comes back and is told the state of everything. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

/** Serves the protocol; every failure is answered as an AgentProblem. */
export function requestListener(served: Served): http.RequestListener {
  return (request, response) => {
    route(served, request, response).catch((error) => {
      const problem = toProblem(error);
      if (problem.code === 'INTERNAL') {
        served.log('error', 'defect', {
          url: request.url,
          stack: error instanceof Error ? error.stack : String(error),
        });
      }
      if (response.headersSent) response.destroy();
      else answer(served, response, AGENT_PROBLEM_STATUS[problem.code], problem);
    });
  };
}

async function route(served: Served, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://agent');
  const [, version, room, name = '', rest] = url.pathname.split('/').map(decodeURIComponent);
  if (version === 'v1') {
    const door = `${request.method} ${room}`;
    if (door === 'POST calls') return serveCall(served, name, request, response);
    if (room === 'tasks') return serveTask(served, name, url, request, response);
    if (door === 'GET events') return serveEvents(served, url, request, response);
    if (door === 'GET domains' && rest === 'serial') return serveSerial(name, url, response);
    if (door === 'GET health') return answer(served, response, 200, served.health());
  }
  throw new Problem('NOT_FOUND', `there is no ${request.method} ${url.pathname}`);
}

function answer({ clock }: Served, response: http.ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response
    .writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      [CLOCK_HEADER]: momentText(clock.now()),
    })
    .end(text);
}

/**
 * Whether a message may be acted on. Asked when it has come in whole: a sender may be suspended in the middle of it. Answers until
 * when it may be begun; undefined for a question.
 *
 * @throws Problem SUPERSEDED for one that a newer has overtaken, or that comes too late.
 */
async function admit(served: Served, request: http.IncomingMessage, changes: boolean): Promise<Deadline | undefined> {
  const { lease, step, until } = readBehalf(request, changes);
  if (changes && served.isEnding()) throw new Problem('BACKEND_UNAVAILABLE', 'this agent is about to end', true);
  if (lease) await served.fence.admit(lease, step);
  if (!until) return undefined;
  const { clock } = served;
  const deadline: Deadline = {
    refuseLate() {
      const refusal = clock.refusal(until);
      // Another try may succeed: whoever asks says anew until when, if it still may.
      if (refusal !== null) throw new Problem('SUPERSEDED', refusal, true);
    },
    leftMs: () => clock.leftMs(until),
  };
  deadline.refuseLate();
  return deadline;
}

async function serveCall(served: Served, called: string, request: http.IncomingMessage, response: http.ServerResponse) {
  const input = await readJson(request);
  const name = checkCall(called, input);
  const deadline = await admit(served, request, !isQuestion(name));
  const startedAt = performance.now();
  const finish = (problem?: AgentProblem) => {
    const durationMs = Math.round(performance.now() - startedAt);
    const failure = problem ? { code: problem.code, problem: problem.message } : {};
    served.log(problem ? 'warn' : 'info', 'call', { call: name, ...subjectOf(input), durationMs, ...failure });
  };
  try {
    // The table's own type says that this handler takes this input; the compiler can not follow it through a variable name.
    const handler = served.calls[name] as (input: unknown) => Promise<unknown>;
    const result = await (deadline ? acting.run(deadline, () => handler(input)) : handler(input));
    finish();
    answer(served, response, 200, result);
  } catch (error) {
    finish(toProblem(error));
    throw error;
  }
}

/** What a log line may say of an input: names, never contents. */
function subjectOf(input: unknown): Record<string, unknown> {
  const { id, pool, image, volumeId } = input as Record<string, unknown>;
  return Object.fromEntries(Object.entries({ id, pool, image, volumeId }).filter(([, value]) => value !== undefined));
}

async function serveTask(
  served: Served,
  id: string,
  url: URL,
  request: http.IncomingMessage,
  response: http.ServerResponse,
) {
  checkTaskId(id);
  if (request.method === 'PUT') {
    const { name, input } = readTask(await readJson(request));
    await admit(served, request, true);
    served.log('info', 'task', { task: name, taskId: id, ...subjectOf(input) });
    return answer(served, response, 200, served.tasks.start(id, name, input as Tasks[typeof name]['input']));
  }
  if (request.method === 'GET') {
    await admit(served, request, false);
    const seconds = Math.min(MAX_WAIT_SECONDS, Number(url.searchParams.get('waitSeconds') ?? 0) || 0);
    return answer(served, response, 200, await served.tasks.wait(id, seconds * 1_000));
  }
  if (request.method === 'DELETE') {
    await admit(served, request, true);
    return answer(served, response, 200, await served.tasks.cancel(id));
  }
  throw new Problem('NOT_FOUND', `there is no ${request.method} of a task`);
}

async function serveEvents(served: Served, url: URL, request: http.IncomingMessage, response: http.ServerResponse) {
  const { lease } = readBehalf(request, false);
  if (lease) {
    await served.fence.admit(lease);
    // What a listener of before is told it would act on.
    const forget = served.fence.onNewLease((newer) => {
      if (newer.shard === lease.shard && newer.epoch > lease.epoch) response.destroy();
    });
    response.on('close', forget);
  }
  const write = (event: HostEvent) => {
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.write(`${JSON.stringify(event)}\n`);
    if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
  };
  const unsubscribe = await served.events.subscribe((event) =>
    write(event.type === 'hello' ? { ...event, beatSeconds: BEAT_SECONDS } : event),
  );
  const tellsClock = url.searchParams.get('clock') === 'true';
  const sign = (): string => (tellsClock ? JSON.stringify({ clock: momentText(served.clock.now()) }) : '');
  const beat = setInterval(() => response.write(`${sign()}\n`), BEAT_SECONDS * 1_000);
  const end = () => {
    clearInterval(beat);
    unsubscribe();
  };
  response.on('close', end);
  if (response.destroyed) end();
}

async function serveSerial(id: string, url: URL, response: http.ServerResponse) {
  checkDomainId(id);
  const reading = new AbortController();
  response.on('close', () => reading.abort());
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  response.flushHeaders();
  const wants = (what: string): boolean => url.searchParams.get(what) === 'true';
  for await (const chunk of readSerialLog(id, wants('follow'), reading.signal, wants('arrived'))) {
    if (!response.write(chunk))
      await new Promise<void>((resolve) => {
        response.once('drain', resolve).once('close', resolve);
      });
  }
  response.end();
}
