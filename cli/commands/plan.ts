/** The plan of a dry run. */
import { outcomeOf } from '../outcome.ts';
import { cellOf, type Format, printOne, table, valueAt, write } from '../output.ts';
import type { Session } from '../session.ts';
import { painter } from '../terminal.ts';

const rowsOf = (plan: unknown, name: string): Record<string, unknown>[] => {
  const rows = valueAt(plan, name);
  return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
};

/** `type` is that of the operation that it would be. */
export async function printPlan(session: Session, type: string, plan: unknown, format: Format): Promise<void> {
  const { terminal } = session;
  if (format !== 'table') return printOne(terminal, plan, { format, columns: null });
  const paint = painter(terminal.stdout, terminal.env);
  const parts: string[] = [];
  const steps = rowsOf(plan, 'steps');
  if (steps.length > 0) {
    const shown = ['name', 'system', 'undo', 'when'].filter((column) =>
      steps.some((step) => step[column] !== undefined),
    );
    parts.push(table(steps, shown, paint));
  }
  const point = valueAt(plan, 'pointOfNoReturn');
  if (point) parts.push(`point of no return: ${cellOf(point)}\n`);
  const locks = rowsOf(plan, 'locks');
  if (locks.length > 0) parts.push(table(locks, ['kind', 'id', 'mode'], paint));
  const quota = cellOf(valueAt(plan, 'quotaDelta'));
  if (quota !== '-') parts.push(`quota: ${quota}\n`);
  if (valueAt(plan, 'waits')) parts.push('it would wait for another operation\n');
  // What would be done in all, where the steps do not say it: which hosts have their turn, and what would move where.
  const whole = await outcomeOf(session, type, valueAt(plan, 'plan'), paint);
  if (whole) parts.push(whole);
  const warnings = valueAt(plan, 'warnings');
  for (const warning of Array.isArray(warnings) ? warnings : [])
    parts.push(`${paint('yellow', 'warning:')} ${cellOf(warning)}\n`);
  await write(terminal.stdout, parts.length > 0 ? parts.join('\n') : 'nothing but the record would change\n');
  session.tell('dry run: nothing was changed');
}
