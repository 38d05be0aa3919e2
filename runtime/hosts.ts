/** Kept connections to host agents: one per host and process, opened at first use, opened again when it broke. */
import { AgentError } from '../host-agent/agentError.ts';
import { connectHost, type HostConnection, type HostTarget } from '../host-agent/connection.ts';
import { metrics } from './metrics.ts';

export { AgentError };

export interface HostConnections {
  /**
   * The open connection, or a new one. Of a host that has not answered for a few seconds, as the records say, nobody waits for an answer:
   * @throws AgentError HOST_UNREACHABLE, or HOST_FENCED, at once, and for good
   */
  connect(hostId: string): Promise<HostConnection>;
  /** The same without asking the records: who finds out whether it answers again. */
  reach(hostId: string): Promise<HostConnection>;
  /** Closes one, so that the next use opens it anew. */
  drop(hostId: string): Promise<void>;
  closeAll(): Promise<void>;
}

/** What the records say of a host. */
export interface KnownHost {
  target: HostTarget;
  /** It has not answered for a few seconds. */
  isSilent: boolean;
  /** It was shut out of its storage, and is used by nobody until it is reinstated. */
  isFenced: boolean;
}

/** `find` answers undefined for a host that there is not. */
export function keepConnections(find: (hostId: string) => Promise<KnownHost | undefined>): HostConnections {
  const kept = new Map<string, Promise<HostConnection>>();

  async function dial(hostId: string, anyway: boolean): Promise<HostConnection> {
    const known = await find(hostId);
    if (!known) throw new AgentError('NOT_FOUND', `there is no host ${hostId}`, false, hostId);
    if (known.isSilent && known.isFenced && !anyway)
      throw new AgentError('HOST_FENCED', `host ${hostId} has failed and was shut out of its storage`, false, hostId);
    if (known.isSilent && !anyway)
      throw new AgentError('HOST_UNREACHABLE', `host ${hostId} does not answer`, false, hostId);
    return measured(await connectHost(known.target));
  }

  function open(hostId: string, anyway: boolean): Promise<HostConnection> {
    const known = kept.get(hostId);
    if (known) return known;
    const dialing = dial(hostId, anyway);
    kept.set(hostId, dialing);
    const forget = (): void => {
      if (kept.get(hostId) === dialing) kept.delete(hostId);
    };
    dialing.then((connection) => connection.closed.then(forget), forget);
    return dialing;
  }

  return {
    connect: (hostId) => open(hostId, false),
    reach: (hostId) => open(hostId, true),
    async drop(hostId) {
      const known = kept.get(hostId);
      kept.delete(hostId);
      await known?.then((connection) => connection.close()).catch(() => {});
    },
    async closeAll() {
      const all = [...kept.values()];
      kept.clear();
      await Promise.all(all.map((connection) => connection.then((c) => c.close()).catch(() => {})));
    },
  };
}

/** The same connection, with its round trips counted. */
function measured(connection: HostConnection): HostConnection {
  const counted: Pick<HostConnection, 'call' | 'as'> = {
    call: (name, input, options) => timed(name, () => connection.call(name, input, options)),
    as(stamp, confirm) {
      const host = connection.as(stamp, confirm);
      return {
        call: (name, input, options) => timed(name, () => host.call(name, input, options)),
        runTask: (name, taskId, input, options) => timed(name, () => host.runTask(name, taskId, input, options)),
      };
    },
  };
  return new Proxy(connection, {
    get: (target, key) => (key === 'call' || key === 'as' ? counted[key] : bound(target, key)),
  });
}

async function timed<Result>(call: string, work: () => Promise<Result>): Promise<Result> {
  const end = metrics.agentCalls.startTimer({ call });
  try {
    const result = await work();
    end({ outcome: 'ok' });
    return result;
  } catch (error) {
    end({ outcome: error instanceof AgentError ? error.code : 'INTERNAL' });
    throw error;
  }
}

function bound(target: HostConnection, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
