/** What a person reads when something went wrong. */
import { Refused } from './client.ts';
import { Failed, Usage } from './exit-codes.ts';
import { cellOf, valueAt } from './output.ts';
import { painter, printableLines, type Terminal } from './terminal.ts';

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? (value as unknown[]) : []);

/** Further lines of a problem document: what is wrong with each field, what stands in the way, where the log has more. */
function detailsOf({ problem }: Refused): string[] {
  const violations = listOf(problem.violations).map((violation) => {
    const position = valueAt(violation, 'position');
    const column = typeof position === 'number' ? ` (column ${position + 1})` : '';
    return `  ${cellOf(valueAt(violation, 'field'))}: ${cellOf(valueAt(violation, 'message'))}${column}`;
  });
  const blockers = listOf(problem.blockers).map((blocker) => {
    const parts = ['kind', 'id', 'name']
      .map((name) => valueAt(blocker, name))
      .filter((part) => typeof part === 'string');
    return `  in the way: ${cellOf(parts.join(' '))}`;
  });
  const fits = listOf(problem.fits).map(String);
  return [
    ...violations,
    ...blockers,
    ...(fits.length > 0 ? [`  possible when: ${cellOf(fits.join(', '))}`] : []),
    ...(problem.operationId ? [`  operation: ${cellOf(problem.operationId)}`] : []),
    ...(problem.retryAfterSeconds ? [`  try again in ${problem.retryAfterSeconds} seconds`] : []),
    ...(problem.requestId ? [`  request: ${cellOf(problem.requestId)}`] : []),
  ];
}

export function tellError({ stderr, env }: Terminal, error: unknown): void {
  const paint = painter(stderr, env);
  const head = paint('red', 'error:');
  if (error instanceof Failed) {
    const text = printableLines(error.message).replace(/^error:/m, head);
    stderr.write(`${text}\n`);
    return;
  }
  if (error instanceof Error && error.name === 'AbortError') {
    stderr.write('interrupted\n');
    return;
  }
  const message = error instanceof Error ? error.message : String(error);
  const lines =
    error instanceof Refused
      ? [`${head} ${cellOf(message)} (${cellOf(error.problem.code)})`, ...detailsOf(error)]
      : [`${head} ${printableLines(message)}`];
  if (error instanceof Refused && error.problem.code === 'UNAUTHENTICATED')
    lines.push('  set BELAY_TOKEN, or run: belay configure');
  stderr.write(`${lines.join('\n')}\n`);
  // What nobody foresaw is a defect; only then does it matter where it happened.
  if (env.BELAY_DEBUG && error instanceof Error && !(error instanceof Usage)) stderr.write(`${error.stack}\n`);
}
