/**
 * Completion of command lines. The scripts only ask `belay __complete` with the words so far, so they fit every version; it answers a
 * line per candidate, `value<TAB>description`, or `:files` where the shell should offer its files.
 */
import { Argument, Command, type Option } from 'commander';
import { answerOf, type BelayClient } from '../client.ts';
import { configurationPath, readConfiguration } from '../configuration.ts';
import { kebab, type Resource, referredKind } from '../document.ts';
import { write } from '../output.ts';
import { locate } from '../place.ts';
import { type Session, send } from '../session.ts';
import { printable } from '../terminal.ts';
import { propertyOf } from './options.ts';

const bash = `# belay completion bash > /etc/bash_completion.d/belay, or: source <(belay completion bash)
_belay() {
  local value description
  COMPREPLY=()
  while IFS=$'\\t' read -r value description; do
    if [[ $value == :files ]]; then
      compopt -o default
      COMPREPLY=()
      return
    fi
    COMPREPLY+=("$(printf '%q' "$value")")
  done < <("$1" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -F _belay belay
`;

const zsh = `#compdef belay
# belay completion zsh > "\${fpath[1]}/_belay", or: source <(belay completion zsh)
_belay() {
  local -a candidates
  local line value description
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      _files
      return
    fi
    value=\${line%%$'\\t'*}
    description=\${line#*$'\\t'}
    candidates+=("\${value//:/\\\\:}:$description")
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  _describe 'belay' candidates
}
if [[ \${zsh_eval_context[-1]} == loadautofunc ]]; then _belay "$@"; else compdef _belay belay; fi
`;

const fish = `# belay completion fish > ~/.config/fish/completions/belay.fish, or: belay completion fish | source
function __belay_complete
    set -l words (commandline -opc)
    set -l candidates ($words[1] __complete -- $words[2..] (commandline -ct) 2>/dev/null)
    if test "$candidates[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $candidates
    end
end
complete -c belay -f -a '(__belay_complete)'
`;

export const scripts = { bash, zsh, fish } as const;

export function completionCommand({ terminal }: Session): Command {
  return new Command('completion')
    .description('Print a script that completes commands, options, values and names')
    .addArgument(new Argument('<shell>', 'For which shell').choices(Object.keys(scripts)))
    .action((shell: keyof typeof scripts) => write(terminal.stdout, scripts[shell]));
}

/** Makes the tree of commands for the words so far. */
type Build = (session: Session, words: readonly string[]) => Command;

export function completeCommand(session: Session, build: Build): Command {
  return new Command('__complete').argument('[words...]').action(async (words: string[]) => {
    const candidates = await complete(session, build, words);
    const lines = candidates.map(({ value, description }) => `${printable(value)}\t${printable(description ?? '')}\n`);
    await write(session.terminal.stdout, lines.join(''));
  });
}

interface Candidate {
  value: string;
  description?: string;
}

const files: Candidate[] = [{ value: ':files' }];

/** A person waits for each of these with a finger on the key. */
const answerWithinMs = 1_500;

/** What may stand where the last word is; never throws, since a completion that fails only is in the way. */
export async function complete(session: Session, build: Build, given: readonly string[]): Promise<Candidate[]> {
  // bash hands over `--output=js` as three words.
  const words = given.flatMap((word, at) => (word === '=' ? (at === given.length - 1 ? [''] : []) : [word]));
  const current = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const program = build(session, before);
  const place = locate(program, before);
  const [, flag, value] = /^(--[^=]+)=(.*)$/s.exec(current) ?? [];
  const inline = flag ? place.command.options.find(({ long, required }) => long === flag && required) : undefined;
  session.flags = { ...flagsIn(before) };
  const option = inline ?? place.option;
  const typed = inline ? (value ?? '') : current;
  const found = option
    ? await valuesOf(session, place.command, option, typed)
    : current.startsWith('-')
      ? optionsOf(place.command)
      : await operandsOf(session, place.command, place.operands);
  if (found === files) return files;
  return found
    .filter((candidate) => candidate.value.startsWith(typed))
    .map((candidate) => (inline ? { ...candidate, value: `${flag}=${candidate.value}` } : candidate));
}

/** Connection flags among the words, so that names come from the API that is meant. */
function flagsIn(words: readonly string[]): Session['flags'] {
  const after = (flag: string): string | undefined => {
    const at = words.indexOf(flag);
    return at < 0 ? undefined : words[at + 1];
  };
  const [url, tokenFile, project, profile] = ['--url', '--token-file', '--project', '--profile'].map(after);
  return {
    ...(url ? { url } : {}),
    // Standard input is not there to be read.
    ...(tokenFile && tokenFile !== '-' ? { tokenFile } : {}),
    ...(project ? { project } : {}),
    ...(profile ? { profile } : {}),
  };
}

const optionsOf = (command: Command): Candidate[] =>
  command.options
    .filter((option) => option.long && (!option.hidden || option.negate))
    .map((option) => ({ value: option.long ?? '', description: option.description }))
    .concat({ value: '--help', description: 'Help on this command' });

const kindOfCommand = (session: Session, command: Command): Resource | undefined =>
  session.resources.find(({ plural }) => plural === (command.parent?.name() ?? ''));

async function valuesOf(session: Session, command: Command, option: Option, typed: string): Promise<Candidate[]> {
  const resource = kindOfCommand(session, command);
  const property = propertyOf(option);
  // In a list, what stands before the last comma is kept.
  const kept =
    property?.form === 'list' || ['--columns', '--fields'].includes(option.long ?? '')
      ? typed.slice(0, typed.lastIndexOf(',') + 1)
      : '';
  const keep = (candidates: Candidate[]): Candidate[] =>
    candidates.map((candidate) => ({ ...candidate, value: kept + candidate.value }));
  if (option.argChoices) return option.argChoices.map((choice) => ({ value: choice }));
  if (option.long === '--columns' || option.long === '--fields')
    return keep(Object.keys(resource?.properties ?? {}).map((name) => ({ value: name })));
  if (option.long === '--profile')
    return Object.keys(readConfiguration(configurationPath(session.terminal.env), () => {}).profiles).map((name) => ({
      value: name,
    }));
  if (option.long === '--project')
    return namesOf(
      session,
      session.resources.find(({ kind }) => kind === 'project'),
    );
  if (!property) return /<file>/.test(option.flags) ? files : [];
  if (property.choices.length > 0) return keep(property.choices.map((choice) => ({ value: choice })));
  const kind = referredKind(property.path.at(-1) ?? '', session.resources, resource?.kind ?? '');
  return kind ? keep(await namesOf(session, kind)) : [];
}

async function operandsOf(session: Session, command: Command, operands: readonly string[]): Promise<Candidate[]> {
  if (command.commands.length > 0 && operands.length === 0)
    return command.commands
      .filter((inner) => !inner.name().startsWith('_'))
      .map((inner) => ({ value: inner.name(), description: inner.description() }));
  const argument = command.registeredArguments[operands.length];
  if (!argument) return [];
  if (argument.argChoices) return argument.argChoices.map((value) => ({ value }));
  if (argument.name() === 'file') return files;
  if (argument.name() === 'instance')
    return namesOf(
      session,
      session.resources.find(({ kind }) => kind === 'instance'),
    );
  return namesOf(session, kindOfCommand(session, command));
}

const nameless = async (client: BelayClient, signal: AbortSignal): Promise<Candidate[]> => {
  const { items } = await answerOf(
    client.GET('/v1/operations', { params: { query: { pageSize: 20, orderBy: 'createdAt desc' } }, signal }),
  );
  return items.map(({ id, type, state }) => ({ value: id, description: `${type} ${state}` }));
};

/** Names of what there is, best effort: an API that does not answer at once gives none. */
async function namesOf(session: Session, resource: Resource | undefined): Promise<Candidate[]> {
  if (!resource) return [];
  const signal = AbortSignal.any([session.terminal.signal, AbortSignal.timeout(answerWithinMs)]);
  try {
    if (resource.kind === 'operation') return await nameless(session.client(), signal);
    if (!resource.properties.name) return [];
    const told = ['id', 'name', 'state'].filter((name) => resource.properties[name]).join(',');
    const query = { pageSize: 200, fields: told };
    const { data } = await send(session, { method: 'get', path: `/v1/${resource.plural}`, query, signal });
    const { items } = data as { items: { id: string; name: string; state?: string }[] };
    const names = items.map(({ name }) => name);
    return items.map(({ id, name, state }) => {
      const unique = names.indexOf(name) === names.lastIndexOf(name);
      return {
        value: unique ? name : id,
        description: [unique ? '' : name, kebab(state ?? '')].filter(Boolean).join(' '),
      };
    });
  } catch {
    return [];
  }
}
