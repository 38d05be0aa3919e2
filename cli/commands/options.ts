/** Options that commands share, and options made from the document. */
import { type Command, Option } from 'commander';
import { kebab, type Parameter, referredKind } from '../document.ts';
import { Usage } from '../exit-codes.ts';
import { cellOf, type Format, formats } from '../output.ts';
import type { Session } from '../session.ts';
import { optionValue, type Property, placeholderOf, secondsOf } from '../values.ts';

/** What commander collected: by the name of the option in camelCase. */
export type Options = Record<string, unknown>;

/** Flags with a meaning of their own; a property of that name is written `--body.<name>`. */
const reserved: readonly string[] = [
  ...[
    'all',
    'body',
    'clear',
    'columns',
    'count',
    'dry-run',
    'file',
    'from-file',
    'help',
    'idempotency-key',
    'if-revision',
  ],
  ...['output', 'profile', 'project', 'timeout', 'token-file', 'url', 'version', 'wait', 'all-projects'],
];

export const flagOf = (flag: string): string =>
  reserved.includes(flag) || flag.startsWith('no-') ? `body.${flag}` : flag;

/** Has a twin that says no; the help shows both as one. */
const negatable = new WeakSet<Option>();
export const hasTwin = (option: Option): boolean => negatable.has(option);

/** What a value of an option may be, for the completion of command lines. */
const properties = new WeakMap<Option, Property>();
export const propertyOf = (option: Option): Property | undefined => properties.get(option);

const described = (property: Property): string => {
  const { required, choices, schema, form } = property;
  const notes = [
    required ? 'needed' : '',
    choices.length > 4 || (choices.length > 0 && form === 'list') ? choices.join(', ') : '',
    schema.default === undefined || schema.default === null || cellOf(schema.default) === '-'
      ? ''
      : `default ${cellOf(schema.default)}`,
  ].filter(Boolean);
  return [property.description, notes.length > 0 ? `(${notes.join('; ')})` : ''].filter(Boolean).join(' ');
};

/** Adds the option of a property and answers the name under which its value will be found. */
export function addProperty(command: Command, session: Session, ownKind: string, property: Property): string {
  const flag = flagOf(property.flag);
  if (property.form === 'boolean') {
    const yes = new Option(`--${flag}`, described(property));
    negatable.add(yes);
    properties.set(yes, property);
    command.addOption(yes).addOption(new Option(`--no-${flag}`).hideHelp());
    return yes.attributeName();
  }
  const name = property.path.at(-1) ?? '';
  // Whose ids these are, other options say.
  const refers = name === 'id' || name === 'ids' || referredKind(name, session.resources, ownKind) !== null;
  const option = new Option(`--${flag} <${placeholderOf(property, refers)}>`, described(property));
  option.argParser((text: string, previous: unknown) => {
    try {
      return optionValue(property, text, previous, session.readFiles);
    } catch (error) {
      if (error instanceof Usage) throw new Usage(`--${flag} ${error.message}`);
      throw error;
    }
  });
  properties.set(option, property);
  command.addOption(option);
  return option.attributeName();
}

/** A parameter of the query string as if it were a property. */
export const propertyOfParameter = ({ name, schema, description = '' }: Parameter): Property => ({
  flag: kebab(name),
  path: [name],
  form: schema.type === 'boolean' ? 'boolean' : schema.type === 'integer' ? 'integer' : 'text',
  schema,
  required: false,
  nullable: false,
  choices: (schema.enum ?? []).map(String),
  description,
});

export function addOutputOptions(command: Command): Command {
  return command
    .optionsGroup('Output:')
    .addOption(new Option('-o, --output <format>', 'How to print').choices(formats).default('table'))
    .option('--columns <names>', 'Which columns of the table, comma-separated; such as name,state,labels.env');
}

export function addWaitOptions(command: Command): Command {
  return command
    .optionsGroup('Operation:')
    .option('--wait', 'Wait for the end; steps are shown as they go, then the resource is printed, and the result')
    .addOption(
      new Option('--timeout <time>', 'Wait at most so long: 90, 90s, 5m, 2h').argParser((text: string) => {
        try {
          return secondsOf(text);
        } catch (error) {
          throw error instanceof Usage ? new Usage(`--timeout ${error.message}`) : error;
        }
      }),
    );
}

export function addConnectionOptions(command: Command): Command {
  return command
    .optionsGroup('Connection:')
    .option('--url <address>', 'Address of the API (BELAY_URL)')
    .option(
      '--token-file <file>',
      'File that holds the token; - for standard input (BELAY_TOKEN holds the token itself)',
    )
    .option('--project <id|name>', 'Project to work in (BELAY_PROJECT)')
    .option('--profile <name>', 'Profile of the configuration file (BELAY_PROFILE)');
}

export const textOption = (options: Options, name: string): string | undefined => {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
};

export const formatOf = (options: Options): Format => (textOption(options, 'output') ?? 'table') as Format;

export function columnsOf(options: Options): string[] | null {
  const names = textOption(options, 'columns')
    ?.split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  if (names?.length === 0) throw new Usage('--columns names no column');
  return names ?? null;
}

export const timeoutOf = (options: Options): number | undefined =>
  typeof options.timeout === 'number' ? options.timeout : undefined;
