/** Writes the configuration file. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { Command } from 'commander';
import {
  addressOf,
  configurationPath,
  type Profile,
  readConfiguration,
  readToken,
  writeConfiguration,
} from '../configuration.ts';
import { Usage } from '../exit-codes.ts';
import { table, write } from '../output.ts';
import type { Session } from '../session.ts';
import { painter, type Terminal } from '../terminal.ts';
import { type Options, textOption } from './options.ts';

export function configureCommand(session: Session): Command {
  return new Command('configure')
    .description('Write address, token and project of a profile; asks for what is not given')
    .option('--profile <name>', 'Profile to write')
    .option('--url <address>', 'Address of the API')
    .option('--token-file <file>', 'File that holds the token; - for standard input')
    .option('--project <id|name>', 'Project to work in; empty for none')
    .option('--list', 'Show the profiles, without their tokens')
    .action(async (options: Options) => {
      const { terminal } = session;
      const path = configurationPath(terminal.env);
      const file = readConfiguration(path, session.warn);
      if (options.list) {
        const rows = Object.entries(file.profiles).map(([name, { url, project, token }]) => ({
          profile: name,
          url,
          project,
          token: token ? 'set' : 'none',
          used: name === (file.profile ?? 'default') ? 'yes' : '',
        }));
        return write(
          terminal.stdout,
          table(rows, ['profile', 'url', 'project', 'token', 'used'], painter(terminal.stdout, terminal.env)),
        );
      }
      const name = textOption(options, 'profile') ?? terminal.env.BELAY_PROFILE ?? file.profile ?? 'default';
      if (!/^[A-Za-z0-9._-]{1,64}$/.test(name) || name === '__proto__')
        throw new Usage(`"${name}" can not name a profile`);
      const before = file.profiles[name] ?? {};
      const profile = await askFor(session, options, before);
      const first = Object.keys(file.profiles).length === 0;
      writeConfiguration(path, {
        ...(first || options.profile ? { profile: name } : file.profile ? { profile: file.profile } : {}),
        profiles: { ...file.profiles, [name]: profile },
      });
      session.tell(`wrote profile ${name} to ${path}`);
    });
}

async function askFor({ terminal, readFiles }: Session, options: Options, before: Profile): Promise<Profile> {
  const asks = terminal.stdin.isTTY === true && terminal.stderr.isTTY === true;
  const givenUrl = textOption(options, 'url');
  const url = givenUrl ?? (asks ? await ask(terminal, 'Address of the API', before.url ?? '') : before.url);
  if (!url) throw new Usage('--url is needed');
  const address = addressOf(url);
  // A token is of one installation; it does not follow to another address.
  const kept = before.url !== undefined && addressOf(before.url) === address ? before.token : undefined;
  const tokenFile = textOption(options, 'tokenFile');
  const typed =
    tokenFile || !asks
      ? undefined
      : await ask(terminal, kept ? 'Token (empty keeps the present one)' : 'Token', '', true);
  const token = tokenFile ? readToken(tokenFile, readFiles) : typed || kept;
  const project =
    textOption(options, 'project') ??
    (asks ? await ask(terminal, 'Project (empty for none)', before.project ?? '') : before.project);
  return { url: address, ...(token ? { token } : {}), ...(project ? { project } : {}) };
}

/** One line from the terminal; what is secret is not echoed. */
function ask({ stdin, stderr, signal }: Terminal, question: string, fallback: string, secret = false): Promise<string> {
  const muted = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: secret ? muted : stderr, terminal: true });
  const prompt = `${question}${fallback ? ` [${fallback}]` : ''}: `;
  if (secret) stderr.write(prompt);
  return new Promise((resolve, reject) => {
    // While it reads a line the terminal is raw, so Ctrl-C comes as a character.
    const interrupted = (): void => {
      lines.close();
      reject(Object.assign(new Error('interrupted'), { name: 'AbortError' }));
    };
    lines.once('SIGINT', interrupted);
    signal.addEventListener('abort', interrupted, { once: true });
    lines.question(secret ? '' : prompt, (answer) => {
      signal.removeEventListener('abort', interrupted);
      lines.close();
      if (secret) stderr.write('\n');
      resolve(answer.trim() || fallback);
    });
  });
}
