/** `belay`: a client of the REST API like any other. Its commands are made from the OpenAPI document. */
import { readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import type { Document } from './document.ts';
import { tellError } from './errors.ts';
import { exitCodeOf, exitCodes, Usage } from './exit-codes.ts';
import { buildProgram, plainBooleans } from './program.ts';
import { openSession } from './session.ts';
import { readInput, type Terminal } from './terminal.ts';

/** The document this command line was built with, so that help and checks need no API. */
function ownDocument(): Document {
  const path = new URL('../generated/openapi.json', import.meta.url);
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Document;
  } catch (error) {
    throw new Usage(`${path.pathname} can not be read; make it with: npm run generate\n${(error as Error).message}`);
  }
}

/** Carries out one command line, given without node and script, and answers the exit code. Never throws. */
export async function run(
  words: readonly string[],
  given: Partial<Terminal> = {},
  document?: Document,
): Promise<number> {
  const { stdin, stdout, stderr, env } = process;
  const terminal: Terminal = { stdin, stdout, stderr, env, readInput, signal: new AbortController().signal, ...given };
  try {
    const program = buildProgram(openSession(terminal, document ?? ownDocument()), words);
    await program.parseAsync(plainBooleans(program, words), { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    // It has said everything itself, and help that was asked for is no error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    tellError(terminal, error);
    return exitCodeOf(error);
  }
}

/** Carries out the command line of this process. */
export async function main(): Promise<void> {
  const interruption = new AbortController();
  process.once('SIGINT', () => {
    interruption.abort();
    process.once('SIGINT', () => process.exit(exitCodes.interrupted));
  });
  // Whoever read this has seen enough, as in `belay instances list --all | head`.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(exitCodes.ok);
    throw error;
  });
  process.exitCode = await run(process.argv.slice(2), { signal: interruption.signal });
}
