/** What happens inside a guest, through its agent: no network of the guest is needed. */
import { setTimeout } from 'node:timers/promises';
import { type Libvirt, openLibvirt } from '../../host-agent/agent/libvirt.ts';
import type { Lab } from '../../lab/real/lab.ts';

export interface GuestCommand {
  code: number;
  output: string;
}

interface ExecStatus {
  exited: boolean;
  exitcode?: number;
  'out-data'?: string;
  'err-data'?: string;
}

const text = (base64: string | undefined): string => Buffer.from(base64 ?? '', 'base64').toString('utf8');

const ANSWER_SECONDS = 30;
/** Whether it answers at all. */
const PING_SECONDS = 5;
const opened = new Map<number, { socket: string; libvirt: Libvirt }>();

/** The connection to a host's libvirt is kept: a program started for each question would cost more than the guest does. */
function libvirtOf(lab: Lab, host: number): Libvirt {
  const socket = lab.libvirtSocket(host);
  if (socket === undefined) throw new Error(`host${host} is off`);
  const before = opened.get(host);
  if (before?.socket === socket) return before.libvirt;
  before?.libvirt.close();
  const libvirt = openLibvirt(socket);
  opened.set(host, { socket, libvirt });
  return libvirt;
}

/** One command to the guest agent of an instance on a host; throws when no agent answers. */
async function ask<Answer>(
  lab: Lab,
  host: number,
  instanceId: string,
  command: object,
  seconds = ANSWER_SECONDS,
): Promise<Answer> {
  const answer = async (): Promise<Answer> => {
    const session = await libvirtOf(lab, host).session();
    const domain = await session.lookup(instanceId);
    if (!domain) throw new Error('no such domain');
    return (await session.agentCommand(domain, command, seconds)) as Answer;
  };
  // A host that hangs keeps its connections, and says nothing.
  const late = new AbortController();
  try {
    return await Promise.race([
      answer(),
      setTimeout(seconds * 1_000, undefined, { signal: late.signal }).then(() => {
        throw new Error(`nothing within ${seconds} s`);
      }),
    ]);
  } catch (error) {
    throw new Error(`the guest agent of ${instanceId} on host${host} did not answer: ${(error as Error).message}`);
  } finally {
    late.abort();
  }
}

const answers = (lab: Lab, host: number, instanceId: string): Promise<boolean> =>
  ask(lab, host, instanceId, { execute: 'guest-ping' }, PING_SECONDS).then(
    () => true,
    () => false,
  );

/** Runs a shell command in a guest and waits for its end. The guest's agent starts with the guest, not before it is ready. */
export async function inGuest(
  lab: Lab,
  host: number,
  instanceId: string,
  command: string,
  timeoutMs = 60_000,
): Promise<GuestCommand> {
  const until = Date.now() + timeoutMs;
  while (!(await answers(lab, host, instanceId))) {
    if (Date.now() > until) throw new Error(`no guest agent answers in ${instanceId} on host${host}`);
    await setTimeout(200);
  }
  const started = await ask<{ pid: number }>(lab, host, instanceId, {
    execute: 'guest-exec',
    arguments: {
      path: '/bin/sh',
      arg: ['-c', command],
      env: ['PATH=/bin:/sbin:/usr/bin:/usr/sbin'],
      'capture-output': true,
    },
  });
  for (;;) {
    const status = await ask<ExecStatus>(lab, host, instanceId, {
      execute: 'guest-exec-status',
      arguments: { pid: started.pid },
    });
    if (status.exited)
      return { code: status.exitcode ?? -1, output: text(status['out-data']) + text(status['err-data']) };
    if (Date.now() > until) throw new Error(`"${command}" goes on in ${instanceId} after ${timeoutMs / 1000} s`);
    await setTimeout(100);
  }
}
