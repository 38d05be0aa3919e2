/** The tree of commands. Only the kind that is asked for gets its commands made, so that the start stays short. */
import { Command, type Option } from 'commander';
import { completeCommand, completionCommand } from './commands/completion.ts';
import { configureCommand } from './commands/configure.ts';
import { createImageCommand, uploadCommand } from './commands/images.ts';
import { watchCommand } from './commands/operations.ts';
import { addConnectionOptions, hasTwin } from './commands/options.ts';
import { resourceCommand } from './commands/resource.ts';
import { consoleCommand, followCommand } from './commands/streams.ts';
import { createVpcCommand, diagramCommand } from './commands/vpcs.ts';
import { aboutCommand, queryCommand } from './commands/whole.ts';
import type { ConnectionFlags } from './configuration.ts';
import { kebab, type Resource } from './document.ts';
import { Usage } from './exit-codes.ts';
import { topics } from './help.ts';
import { write } from './output.ts';
import { locate, takesValue } from './place.ts';
import type { Session } from './session.ts';

const areaTitles: Record<string, string> = {
  compute: 'Compute:',
  storage: 'Storage:',
  network: 'Network:',
  tenancy: 'Tenants:',
  platform: 'Platform:',
};

/** Commands of a kind that its description does not know. */
const special: Record<string, (session: Session, resource: Resource) => Command[]> = {
  image: (session, resource) => [createImageCommand(session, resource), uploadCommand(session)],
  operation: (session) => [watchCommand(session)],
  event: (session) => [followCommand(session)],
  vpc: (session, resource) => [createVpcCommand(session, resource), diagramCommand(session, resource)],
};

function kindCommand(session: Session, resource: Resource): Command {
  const own = special[resource.kind]?.(session, resource) ?? [];
  const generic = resource.verbs.filter(({ name }) => !own.some((command) => command.name() === name));
  const command = resourceCommand(session, { ...resource, verbs: generic });
  for (const added of own) command.addCommand(added);
  return command;
}

/** The singular of a kind's command does, too: `belay instance get web`. */
const means = (resource: Resource, word: string | undefined): boolean =>
  word === resource.plural || word === kebab(resource.kind);

/** The command line for these words; throws nothing before it parses them. */
export function buildProgram(session: Session, words: readonly string[]): Command {
  const { terminal } = session;
  const program = new Command('belay')
    .description('Command line of the Belay cloud control plane')
    .version(session.document.info.version, '-V, --version', 'Version of this command line')
    .enablePositionalOptions()
    .helpCommand(false)
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      getOutHelpWidth: () => terminal.stdout.columns ?? 120,
      getErrHelpWidth: () => terminal.stderr.columns ?? 120,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .configureHelp({
      subcommandTerm: (command) => command.name(),
      optionTerm: (option: Option) => (hasTwin(option) ? option.flags.replace('--', '--[no-]') : option.flags),
    })
    .addHelpText(
      'after',
      `\nbelay <kind> --help lists what can be done with a kind; belay help ${Object.keys(topics).join(' | ')} tells more.`,
    );
  addConnectionOptions(program);
  const word = firstOperand(program, words);
  for (const area of ['compute', 'storage', 'network', 'tenancy', 'platform'])
    for (const resource of session.resources.filter((candidate) => candidate.area === area)) {
      const command = means(resource, word)
        ? kindCommand(session, resource)
        : new Command(resource.plural).description(resource.summary);
      program.addCommand(command.alias(kebab(resource.kind)).helpGroup(areaTitles[area] ?? 'Other:'));
    }
  const others = [
    consoleCommand(session),
    queryCommand(session),
    aboutCommand(session),
    configureCommand(session),
    completionCommand(session),
    helpCommand(session, program),
  ];
  for (const command of others) program.addCommand(command.helpGroup('Commands:'));
  program.addCommand(completeCommand(session, buildProgram), { hidden: true });
  for (const command of program.commands) inherit(command, program);
  program.hook('preAction', (_, action) => {
    session.flags = { ...flagsOf(program), ...flagsOf(action) };
  });
  return program;
}

/** What commands that were made on their own take over from the program. */
function inherit(command: Command, from: Command): void {
  command.copyInheritedSettings(from);
  command.helpCommand(false);
  for (const inner of command.commands) inherit(inner, command);
}

function flagsOf(command: Command): ConnectionFlags {
  const options: Record<string, unknown> = command.opts();
  const names = ['url', 'tokenFile', 'project', 'profile'] as const;
  return Object.fromEntries(
    names.flatMap((name) => (typeof options[name] === 'string' ? [[name, options[name]]] : [])),
  );
}

function firstOperand(program: Command, words: readonly string[]): string | undefined {
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    // What help is asked for needs its commands, too.
    if (word === 'help' || word === '__complete' || word === '--') continue;
    if (!word.startsWith('-')) return word;
    if (takesValue(program, word)) at++;
  }
  return undefined;
}

/** `--enabled=false` as `--no-enabled`, which is the form that commander knows. */
export function plainBooleans(program: Command, words: readonly string[]): string[] {
  const { command } = locate(program, words);
  const end = words.indexOf('--');
  return words.flatMap((word, at) => {
    const [, flag, value] = /^(--[a-z][a-z0-9.-]*)=(true|false)$/.exec(word) ?? [];
    const option = command.options.find(({ long }) => long === flag);
    if (!flag || !option || option.required || (end >= 0 && at > end)) return [word];
    if (value === 'true') return [flag];
    const no = `--no-${flag.slice(2)}`;
    return command.options.some(({ long }) => long === no) ? [no] : [];
  });
}

function helpCommand({ terminal }: Session, program: Command): Command {
  return new Command('help')
    .description('Help on a command or a topic')
    .argument('[words...]', `A command, or ${Object.keys(topics).join(', ')}`)
    .action(async (words: string[]) => {
      const topic = topics[words.join(' ')];
      if (topic) return write(terminal.stdout, topic);
      const { command, operands } = locate(program, words);
      if (operands.length > 0) throw new Usage(`there is no help on ${words.join(' ')}`);
      await write(terminal.stdout, command.helpInformation());
    });
}
