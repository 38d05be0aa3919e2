/** Where a command runs: its streams, environment and interruptions. Tests put their own in. */
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';

export interface Output extends Writable {
  isTTY?: boolean;
  columns?: number;
}

export interface Terminal {
  stdin: Readable & { isTTY?: boolean };
  /** All of standard input. */
  readInput(): string;
  stdout: Output;
  stderr: Output;
  env: Record<string, string | undefined>;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

const codes: Record<Style, string> = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', cyan: '36' };

/** Paints text for one stream: only on a terminal, and never where `NO_COLOR` is set (https://no-color.org). */
export function painter(output: Output, env: Terminal['env']): (style: Style | null, text: string) => string {
  const colours = output.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
  return (style, text) => (colours && style ? `\u001b[${codes[style]}m${text}\u001b[0m` : text);
}

/** Names are chosen by others: without control characters they can not steer the terminal that shows them. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');

/** Messages may have lines. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n');

/** All of standard input as text, read at once: options take it while they are parsed. */
export function readInput(): string {
  try {
    return readFileSync(0, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    // Whoever is at the other end made it non-blocking; opened anew it blocks.
    return readFileSync('/dev/stdin', 'utf8');
  }
}
