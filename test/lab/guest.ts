/** What happens inside a guest, through its agent: no network of the guest is needed. */
import { setTimeout } from 'node:timers/promises';
import type { Lab } from '../../lab/real/lab.ts';

export interface GuestCommand {
  code: number;
  output: string;
}

interface ExecStatus {
  return: { exited: boolean; exitcode?: number; 'out-data'?: string; 'err-data'?: string };
}

const text = (base64: string | undefined): string => Buffer.from(base64 ?? '', 'base64').toString('utf8');

/** One command to the guest agent of an instance on a host; throws when no agent answers. */
async function ask<Answer>(lab: Lab, host: number, instanceId: string, command: unknown): Promise<Answer> {
  const argv = [
    'virsh',
    '-c',
    'qemu:///system',
    'qemu-agent-command',
    `instance-${instanceId}`,
    JSON.stringify(command),
  ];
  const { code, stdout, stderr } = await lab.execHost(host, argv, { timeoutMs: 30_000 });
  if (code !== 0) throw new Error(`the guest agent of ${instanceId} on host${host} did not answer: ${stderr.trim()}`);
  return JSON.parse(stdout) as Answer;
}

/** Runs a shell command in a guest and waits for its end. The guest's agent starts with the guest, not before it is ready. */
export async function inGuest(
  lab: Lab,
  host: number,
  instanceId: string,
  command: string,
  timeoutMs = 60_000,
): Promise<GuestCommand> {
  const until = Date.now() + timeoutMs;
  while (!(await ask(lab, host, instanceId, { execute: 'guest-ping' }).catch(() => null))) {
    if (Date.now() > until) throw new Error(`no guest agent answers in ${instanceId} on host${host}`);
    await setTimeout(200);
  }
  const started = await ask<{ return: { pid: number } }>(lab, host, instanceId, {
    execute: 'guest-exec',
    arguments: {
      path: '/bin/sh',
      arg: ['-c', command],
      env: ['PATH=/bin:/sbin:/usr/bin:/usr/sbin'],
      'capture-output': true,
    },
  });
  for (;;) {
    const { return: status } = await ask<ExecStatus>(lab, host, instanceId, {
      execute: 'guest-exec-status',
      arguments: { pid: started.return.pid },
    });
    if (status.exited)
      return { code: status.exitcode ?? -1, output: text(status['out-data']) + text(status['err-data']) };
    if (Date.now() > until) throw new Error(`"${command}" goes on in ${instanceId} after ${timeoutMs / 1000} s`);
    await setTimeout(100);
  }
}
