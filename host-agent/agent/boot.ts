import { readFile } from 'node:fs/promises';
import { Problem } from '../problem.ts';
import type { Calls } from '../protocol.ts';
import { runProgram } from './command.ts';
import { isActive } from './domainState.ts';
import { domainInventory } from './domains.ts';
import type { Libvirt } from './libvirt.ts';
import { hasSystemd } from './serviceManager.ts';

/** The kernel's own name for its life (random(4)). */
const bootIdOf = async (): Promise<string> => (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();

export const boot = async (): Promise<Calls['host.boot']['result']> => ({
  bootId: await bootIdOf(),
  canReboot: await hasSystemd(),
});

/** Answers before the machine goes down: systemd takes the order, and then ends the agent like everything else. */
export async function reboot(libvirt: Libvirt, { bootId }: Calls['host.reboot']['input']): Promise<void> {
  if ((await bootIdOf()) !== bootId) return;
  const running = (await domainInventory(libvirt)).filter(({ state }) => isActive(state));
  if (running.length > 0)
    throw new Problem('PRECONDITION_FAILED', `${running.length} guests run on this host: ${running[0]?.id} is one`);
  if (!(await hasSystemd()))
    throw new Problem('NOT_SUPPORTED', 'this host has no systemd, by which it could be made to start anew');
  await runProgram('systemctl', ['reboot']);
}
