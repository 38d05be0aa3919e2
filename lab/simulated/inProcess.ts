/**
 * Simulated hosts within the process that speaks to them: nothing goes over a wire, so one process carries as many as its own code bears. They
 * answer as those of the simulator do. There is nobody here who would hear of their mishaps, and no OVN that would hear of their chassis.
 */
import { createHash } from 'node:crypto';
import { addAbortSignal, PassThrough, type Readable } from 'node:stream';
import { AgentError } from '../../host-agent/agentError.ts';
import type { HostConnection, HostInStep, HostTarget, RequestOptions } from '../../host-agent/connection.ts';
import {
  type AgentHealth,
  BEAT_SECONDS,
  CALLS,
  type CallName,
  type Calls,
  type DomainSpec,
  type HostEvent,
  isQuestion,
  type QuestionName,
  type TaskName,
  type Tasks,
} from '../../host-agent/protocol.ts';
import { checkCall, checkDomainId, checkTaskId, readTask } from '../../host-agent/requests.ts';
import type { Lease, Stamp } from '../../host-agent/stamp.ts';
import { createCeph } from './ceph.ts';
import { calls } from './host/calls.ts';
import { newDomain } from './host/domainState.ts';
import { hello } from './host/events.ts';
import {
  type CallHandlers,
  createHost,
  type Domain,
  type Host,
  type HostWorld,
  type NetworkControl,
} from './host/host.ts';
import { serialOf } from './host/serial.ts';
import { cancelTask, startTask, taskChange } from './host/tasks.ts';
import { problemOf, refuse } from './problem.ts';

export interface HostsHere {
  world: HostWorld;
  /** Of `sim://<anything>/<name>`. A host comes to be when it is first reached. */
  connect(target: HostTarget): Promise<HostConnection>;
  stop(): void;
}

/** What each host runs from its beginning, as somebody else has recorded it. Their images are nowhere: they run, and can do nothing else. */
export interface RecordedGuests {
  perHost: number;
  vcpus: number;
  memoryMib: number;
}

/** The id of a guest that a host runs from its beginning; `guestIdSql` tells PostgreSQL the same. */
export function guestId(host: string, n: number): string {
  const hex = createHash('md5').update(`${host}/${n}`).digest('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
export const guestIdSql = (host: string, n: string): string => `md5(${host} || '/' || ${n})::uuid`;

const startedAt = Date.now();

function runningGuest(id: string, { vcpus, memoryMib }: RecordedGuests): Domain {
  const spec: DomainSpec = {
    id,
    tags: { id, kind: 'instance', operation: 'recorded', revision: 1 },
    hostname: 'recorded',
    vcpus,
    memoryMib,
    firmware: 'bios',
    disks: [],
    seed: null,
    interfaces: [],
  };
  return newDomain(spec, { live: spec, state: 'running', reason: 'booted', startedAt });
}

/**
 * Of a host that is only looked at nothing is kept of its guests but their ids: whoever looks at all of them gets them anew each time. From the first
 * that is asked for by its id on they are kept.
 */
class Guests extends Map<string, Domain> {
  #ids: readonly string[];
  readonly #of: RecordedGuests;

  constructor(ids: readonly string[], of: RecordedGuests) {
    super();
    this.#ids = ids;
    this.#of = of;
  }

  #keep(): void {
    const ids = this.#ids;
    this.#ids = [];
    for (const id of ids) super.set(id, runningGuest(id, this.#of));
  }

  override values(): MapIterator<Domain> {
    return this.#ids.length > 0 ? this.#ids.map((id) => runningGuest(id, this.#of)).values() : super.values();
  }

  override get(id: string): Domain | undefined {
    this.#keep();
    return super.get(id);
  }

  override has(id: string): boolean {
    this.#keep();
    return super.has(id);
  }

  override set(id: string, domain: Domain): this {
    this.#keep();
    return super.set(id, domain);
  }

  override delete(id: string): boolean {
    this.#keep();
    return super.delete(id);
  }
}

const noNetwork: NetworkControl = {
  chassisJoined() {},
  chassisLeft() {},
  chassisRenamed() {},
  chassisHost: () => undefined,
  interfaceChanged() {},
};

/** Somebody who listens to a host. */
interface Listener {
  by: Connection;
  lease: Lease | undefined;
  heard: (() => void) | undefined;
  end(reason: AgentError): void;
}

/** One timer gives all hosts their signs of life. */
export function hostsHere(guests: RecordedGuests = { perHost: 0, vcpus: 0, memoryMib: 0 }): HostsHere {
  const hosts = new Map<string, Host>();
  const listeners = new Map<Host, Listener[]>();
  const world: HostWorld = {
    settings: {
      vcpusPerHost: 64,
      memoryMibPerHost: 262_144,
      vcpuOvercommit: 16,
      bootMs: 20,
      shutDownMs: 10,
      migrationMs: 200,
      rebootMs: 300,
    },
    ceph: createCeph('in process'),
    filePools: new Map(),
    network: noNetwork,
    hosts,
    heartbeats: new Map(),
    running: new Map(),
    interfaces: new Map(),
    cutAll: (host) => end(host, () => true),
    findHost(name) {
      const known = hosts.get(name);
      if (known) return known;
      const host = createHost(world, name);
      const ids = Array.from({ length: guests.perHost }, (_, n) => guestId(name, n));
      if (ids.length > 0) host.domains = new Guests(ids, guests);
      host.claimedVcpus = guests.perHost * guests.vcpus;
      host.claimedMemoryMib = guests.perHost * guests.memoryMib;
      hosts.set(name, host);
      return host;
    },
    findHostAt: (address) => [...hosts.values()].find((host) => host.hypervisor?.migrationAddress === address),
  };

  const end = (host: Host, which: (listener: Listener) => boolean): void =>
    (listeners.get(host) ?? []).filter(which).forEach((listener) => {
      listener.end(silent(host, 'the stream of events ended'));
    });

  const beat = setInterval(() => {
    for (const [host, its] of listeners) if (host.connection === 'up') for (const { heard } of its) heard?.();
  }, BEAT_SECONDS * 1_000).unref();

  /** As an agent does, of one who says on whose behalf he comes. */
  function admit(host: Host, lease: Lease, step?: Stamp['step']): void {
    const verdict = host.fence.admit(lease, step);
    if ('refusal' in verdict) throw refuse('SUPERSEDED', verdict.refusal, true);
    if (verdict.isNew)
      end(host, (listener) => listener.lease?.shard === lease.shard && listener.lease.epoch < lease.epoch);
  }

  const shared: Shared = { admit, end, listeners };
  return {
    world,
    async connect({ address }) {
      const host = world.findHost(new URL(address).pathname.slice(1));
      if (!host) throw new AgentError('HOST_UNREACHABLE', `there is no ${address}`, true, address);
      return new Connection(address, host, shared);
    },
    stop: () => clearInterval(beat),
  };
}

const silent = ({ name }: Host, why: string): AgentError =>
  new AgentError('HOST_UNREACHABLE', `the agent of ${name} does not answer: ${why}`, true, name);

/** What the connections to all hosts share. */
interface Shared {
  admit(host: Host, lease: Lease, step?: Stamp['step']): void;
  end(host: Host, which: (listener: Listener) => boolean): void;
  listeners: Map<Host, Listener[]>;
}

/** What goes over a wire is another's own on the other side. */
const copyOf = <Value>(value: Value): Value =>
  value === undefined ? value : (JSON.parse(JSON.stringify(value)) as Value);

const pollMs = 20_000;

class Connection implements HostConnection {
  readonly host: string;
  readonly hostKey = null;
  readonly shell = null;
  readonly closed: Promise<undefined>;
  isOpen = true;
  readonly #host: Host;
  readonly #shared: Shared;
  #close: () => void = () => {};

  constructor(address: string, host: Host, shared: Shared) {
    this.host = address;
    this.#host = host;
    this.#shared = shared;
    this.closed = new Promise((resolve) => {
      this.#close = () => resolve(undefined);
    });
  }

  call<N extends QuestionName>(
    name: N,
    input: Calls[N]['input'],
    options?: RequestOptions,
  ): Promise<Calls[N]['result']> {
    return this.#answer(name, input, options);
  }

  as(stamp: Stamp, confirm: () => Promise<void>): HostInStep {
    return {
      call: async (name, input, options) => {
        if (!isQuestion(name)) await confirm();
        return this.#answer(name, input, options, stamp);
      },
      runTask: async (name, id, input, options = {}) => {
        await confirm();
        return this.#run(stamp, name, id, input, options);
      },
    };
  }

  async events(
    onEvent: (event: HostEvent) => void,
    signal: AbortSignal,
    onHeard?: () => void,
    lease?: Lease,
  ): Promise<void> {
    if (signal.aborted) return;
    const host = this.#host;
    const { listeners } = this.#shared;
    this.#asked(() => lease && this.#shared.admit(host, lease));
    await new Promise<void>((resolve, reject) => {
      const listener: Listener = {
        by: this,
        lease,
        heard: onHeard,
        end(reason) {
          leave();
          reject(reason);
        },
      };
      const listen = (event: HostEvent): void => {
        onHeard?.();
        onEvent(copyOf(event));
      };
      const leave = (): void => {
        signal.removeEventListener('abort', stop);
        host.listeners.delete(listen);
        const left = (listeners.get(host) ?? []).filter((other) => other !== listener);
        if (left.length > 0) listeners.set(host, left);
        else listeners.delete(host);
      };
      const stop = (): void => {
        leave();
        resolve();
      };
      signal.addEventListener('abort', stop, { once: true });
      host.listeners.add(listen);
      listeners.set(host, [...(listeners.get(host) ?? []), listener]);
      listen(hello(host));
    });
  }

  serial(
    id: string,
    { follow = false, arrived = false, signal }: { follow?: boolean; arrived?: boolean; signal?: AbortSignal } = {},
  ): Readable {
    const output = new PassThrough();
    try {
      const serial = this.#asked(() => {
        checkDomainId(id);
        return serialOf(this.#host, id);
      });
      output.write((arrived ? '' : serial.earlier) + serial.text);
      if (follow) serial.readers.add(output.on('close', () => serial.readers.delete(output)));
      else output.end();
      if (signal) addAbortSignal(signal, output);
    } catch (error) {
      output.destroy(error as AgentError);
    }
    return output;
  }

  async health(): Promise<AgentHealth> {
    const { bootId, name: hostname } = this.#host;
    return this.#asked(() => ({ agent: 'simulated', bootId, hostname, libvirt: true, switch: true }));
  }

  async close(): Promise<void> {
    this.isOpen = false;
    this.#shared.end(this.#host, ({ by }) => by === this);
    this.#close();
  }

  /** Work on the host, whose refusal is told as over a wire. */
  #asked<Result>(work: () => Result): Result {
    if (!this.isOpen) throw silent(this.#host, 'the connection was closed');
    if (this.#host.connection !== 'up') throw silent(this.#host, `it is ${this.#host.connection}`);
    try {
      return work();
    } catch (error) {
      throw this.#told(error);
    }
  }

  #told(error: unknown): AgentError {
    if (error instanceof AgentError) return error;
    const { code, message, retryable } = problemOf(error);
    return new AgentError(code, message, retryable, this.host);
  }

  async #answer<N extends CallName>(
    name: N,
    input: Calls[N]['input'],
    { signal, timeoutMs = CALLS[name].timeoutMs }: RequestOptions = {},
    stamp?: Stamp,
  ): Promise<Calls[N]['result']> {
    signal?.throwIfAborted();
    const answer = this.#asked(() => {
      const own = copyOf(input);
      checkCall(name, own);
      if (stamp) this.#shared.admit(this.#host, stamp.lease, stamp.step);
      return (calls[name] as CallHandlers<typeof CALLS>[N])(this.#host, own);
    });
    // What is there at once takes nobody's patience, and is nobody else's.
    if (!(answer instanceof Promise)) return isQuestion(name) ? answer : copyOf(answer);
    const told = answer.catch((error: unknown) => Promise.reject(this.#told(error)));
    return copyOf(await unless(told, this.host, name, timeoutMs, signal));
  }

  async #run<N extends TaskName>(
    stamp: Stamp,
    called: N,
    id: string,
    input: Tasks[N]['input'],
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (percent: number) => void },
  ): Promise<Tasks[N]['result']> {
    signal?.throwIfAborted();
    const live = this.#asked(() => {
      checkTaskId(id);
      const { name, input: own } = readTask(copyOf({ name: called, input }));
      this.#shared.admit(this.#host, stamp.lease, stamp.step);
      return startTask(this.#host, id, name, own, () => undefined);
    });
    const cancel = (): void => void cancelTask(live);
    signal?.addEventListener('abort', cancel, { once: true });
    let told = -1;
    while (live.task.state === 'running') {
      await taskChange(live, pollMs);
      if (live.task.progress !== told) onProgress?.(live.task.progress);
      told = live.task.progress;
    }
    signal?.removeEventListener('abort', cancel);
    const { state, result, problem } = live.task;
    if (state === 'succeeded') return copyOf(result) as Tasks[N]['result'];
    signal?.throwIfAborted();
    const { code, message, retryable } = problem ?? {
      code: 'INVALID_STATE' as const,
      message: `task ${id} (${called}) was cancelled by someone else`,
      retryable: false,
    };
    throw new AgentError(code, message, retryable, this.host);
  }
}

/** The answer, unless its caller does not want it any more, or it takes too long. */
async function unless<Result>(
  work: Promise<Result>,
  host: string,
  name: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<Result> {
  let stop = (): void => {};
  const ended = new Promise<never>((_, reject) => {
    const late = setTimeout(
      () => reject(new AgentError('TIMEOUT', `${host} did not answer ${name} within ${timeoutMs} ms`, true, host)),
      timeoutMs,
    );
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    stop = () => {
      clearTimeout(late);
      signal?.removeEventListener('abort', abort);
    };
  });
  try {
    return await Promise.race([work, ended]);
  } finally {
    stop();
  }
}
