import { Command } from 'commander';
import { Usage } from '../exit-codes.ts';
import { isId } from '../names.ts';
import { printResult } from '../outcome.ts';
import { printOne } from '../output.ts';
import { watchOperation } from '../progress.ts';
import type { Session } from '../session.ts';
import {
  addConnectionOptions,
  addOutputOptions,
  addWaitOptions,
  columnsOf,
  formatOf,
  type Options,
  timeoutOf,
} from './options.ts';

/** `belay operations watch <id>`: live steps until the end; the exit code tells how it ended. */
export function watchCommand(session: Session): Command {
  const command = new Command('watch')
    .description('Follow an operation until it has ended')
    .argument('<id>', 'The operation');
  addWaitOptions(command);
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (id: string, options: Options) => {
    if (!isId(id)) throw new Usage(`"${id}" is no id of an operation`);
    const operation = await watchOperation(session, id, timeoutOf(options));
    if (formatOf(options) === 'table' && !columnsOf(options)) return printResult(session, operation);
    await printOne(session.terminal, operation, { format: formatOf(options), columns: columnsOf(options) });
  });
}
