/** What goes on until Ctrl-C: events, and the serial console of an instance. */
import { Command, Option } from 'commander';
import { answerOf, followEvents } from '../client.ts';
import { idOf } from '../names.ts';
import { cellOf, formats, write, yaml } from '../output.ts';
import { resourceNamed, type Session } from '../session.ts';
import { painter } from '../terminal.ts';
import { addConnectionOptions, formatOf, type Options, textOption } from './options.ts';

/** `belay events follow`: a line per event, or with `-o json` one JSON object per line. */
export function followCommand(session: Session): Command {
  const command = new Command('follow')
    .description('Show events as they happen, until Ctrl-C')
    .option('--filter <text>', 'Such as: resourceKind = "instance" AND severity = "error"')
    .option('--from <id>', 'Go on behind this event (its sequence)')
    .addOption(new Option('-o, --output <format>', 'How to print').choices(formats).default('table'));
  addConnectionOptions(command);
  return command.action(async (options: Options) => {
    const { stdout, env, signal } = session.terminal;
    const paint = painter(stdout, env);
    const filter = textOption(options, 'filter');
    const lastEventId = textOption(options, 'from');
    const format = formatOf(options);
    const events = followEvents(session.client(), {
      signal,
      ...(filter ? { filter } : {}),
      ...(lastEventId ? { lastEventId } : {}),
    });
    for await (const { event } of events) {
      if (format === 'json') await write(stdout, `${JSON.stringify(event)}\n`);
      else if (format === 'yaml') await write(stdout, `---\n${yaml(event)}\n`);
      else if (format === 'id') await write(stdout, `${event.id}\n`);
      else {
        const { createdAt, severity, type, resourceKind, resourceId, operationId } = event;
        const grave =
          severity === 'error' || severity === 'critical' ? 'red' : severity === 'warning' ? 'yellow' : 'cyan';
        const operation = operationId ? paint('dim', `  operation ${cellOf(operationId)}`) : '';
        await write(
          stdout,
          `${cellOf(createdAt)}  ${paint(grave, cellOf(type))}  ${cellOf(resourceKind)} ${cellOf(resourceId)}${operation}\n`,
        );
      }
    }
    signal.throwIfAborted();
  });
}

/** `belay console <instance>`: the bytes as they are; the guest may steer the terminal, as at any console. */
export function consoleCommand(session: Session): Command {
  const command = new Command('console')
    .description('Show the serial console of an instance, until Ctrl-C')
    .argument('<instance>', 'The instance, by id or name')
    .option('--no-follow', 'Only what it has said so far');
  addConnectionOptions(command);
  return command.action(async (name: string, options: Options) => {
    const { stdout, signal } = session.terminal;
    const id = await idOf(session, resourceNamed(session, 'instance'), name);
    const stream = await answerOf(
      session.client().GET('/v1/instances/{id}/views/serialLog', {
        params: { path: { id }, query: { follow: options.follow !== false } },
        parseAs: 'stream',
        signal,
      }),
    );
    const decoder = new TextDecoder();
    for await (const chunk of (stream ?? []) as AsyncIterable<Uint8Array>)
      await write(stdout, decoder.decode(chunk, { stream: true }));
    signal.throwIfAborted();
  });
}
