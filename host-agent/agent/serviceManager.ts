import { runProgram } from './command.ts';
import { exists } from './paths.ts';

const SYSTEMD = '/run/systemd/system';
/** The small supervisor of a host without systemd, such as one in a namespace. */
const BELAY_SERVICE = '/usr/local/sbin/belay-service';

export async function hasSystemd(): Promise<boolean> {
  return exists(SYSTEMD);
}

export async function restartService(name: string): Promise<void> {
  if (await hasSystemd()) await runProgram('systemctl', ['restart', name], { timeoutMs: 60_000 });
  else await runProgram(BELAY_SERVICE, ['restart', name], { timeoutMs: 60_000 });
}
