/** Commands about the installation as a whole. */
import { Command, Option } from 'commander';
import { columnsFor } from '../columns.ts';
import { Usage } from '../exit-codes.ts';
import { formats, type Page, printOne, table, write } from '../output.ts';
import { type Session, send } from '../session.ts';
import { painter } from '../terminal.ts';
import { bodyFromFile } from '../values.ts';
import { addConnectionOptions, addOutputOptions, columnsOf, formatOf, type Options, textOption } from './options.ts';

export function aboutCommand(session: Session): Command {
  const command = new Command('about').description('Version, region and time of the API');
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (options: Options) => {
    const { data } = await send(session, { method: 'get', path: '/v1/about' });
    const { url, profile } = session.configuration();
    await printOne(session.terminal, data, { format: formatOf(options), columns: columnsOf(options) });
    if (formatOf(options) === 'table') session.tell(`${url}, profile ${profile}`);
  });
}

/** `belay query`: named lists, answered from one snapshot. */
export function queryCommand(session: Session): Command {
  const command = new Command('query')
    .description('Several lists by name, answered from one snapshot')
    .addHelpText('after', '\nExample: {"up":{"kind":"instance","filter":"state = running"},"disks":{"kind":"volume"}}')
    .option('--from-file <file>', 'The named lists as JSON; - for standard input', '-')
    .addOption(
      new Option('-o, --output <format>', 'How to print')
        .choices(formats.filter((format) => format !== 'id'))
        .default('json'),
    );
  addConnectionOptions(command);
  return command.action(async (options: Options) => {
    const file = textOption(options, 'fromFile') ?? '-';
    if (file === '-' && session.terminal.stdin.isTTY)
      throw new Usage('the query is read from standard input, or from --from-file');
    const body = bodyFromFile(file, session.readFiles);
    const { data } = await send(session, { method: 'post', path: '/v1/query', body });
    if (formatOf(options) !== 'table')
      return printOne(session.terminal, data, { format: formatOf(options), columns: null });
    const { stdout, env } = session.terminal;
    const paint = painter(stdout, env);
    for (const [name, page] of Object.entries(data as Record<string, Page>)) {
      const { kind } = (body[name] ?? {}) as { kind?: unknown };
      const resource = session.resources.find((known) => known.kind === kind || known.plural === kind);
      const columns = resource ? columnsFor(resource) : Object.keys(page.items[0] ?? { id: '' });
      await write(stdout, `${paint('cyan', name)}\n${table(page.items, columns, paint)}\n`);
    }
  });
}
