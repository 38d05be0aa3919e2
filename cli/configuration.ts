/** Which API, as whom, in which project: flags before environment before the profile of the configuration file. */
import { chmodSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Usage } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';
import type { ReadFiles } from './values.ts';

export interface Profile {
  url?: string;
  token?: string;
  /** Id or name. */
  project?: string;
}

export interface ConfigurationFile {
  /** Used when neither flag nor environment names one. */
  profile?: string;
  profiles: Record<string, Profile>;
}

export interface ConnectionFlags {
  url?: string;
  tokenFile?: string;
  project?: string;
  profile?: string;
}

export interface Configuration {
  url: string;
  token?: string;
  project?: string;
  profile: string;
}

type Environment = Terminal['env'];

export const configurationPath = (env: Environment): string =>
  env.BELAY_CONFIG || join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), '.config'), 'belay', 'config.json');

const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

function profileOf(value: unknown): Profile {
  const { url, token, project } = (value ?? {}) as Record<string, unknown>;
  const texts = { url: textOf(url), token: textOf(token), project: textOf(project) };
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== undefined));
}

/** The file, or an empty one where there is none. `warn` hears of a file that others may read. */
export function readConfiguration(path: string, warn: (message: string) => void): ConfigurationFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
    const mode = statSync(path).mode & 0o777;
    if ((mode & 0o077) !== 0)
      warn(`${path} holds credentials and others may read it (mode ${mode.toString(8)}): chmod 600 it`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { profiles: {} };
    throw new Usage(`${path} can not be read: ${(error as Error).message}`);
  }
  try {
    const { profile, profiles } = JSON.parse(text) as { profile?: unknown; profiles?: Record<string, unknown> };
    const current = textOf(profile);
    return {
      ...(current ? { profile: current } : {}),
      profiles: Object.fromEntries(Object.entries(profiles ?? {}).map(([name, value]) => [name, profileOf(value)])),
    };
  } catch {
    throw new Usage(`${path} is no JSON; mend it, or delete it and run: belay configure`);
  }
}

/** Writes the file whole, for its owner only. */
export function writeConfiguration(path: string, file: ConfigurationFile): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${process.pid}.new`;
  writeFileSync(fresh, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  // A file left there by a run that was cut off keeps its mode.
  chmodSync(fresh, 0o600);
  renameSync(fresh, path);
}

/** The token in a file, or on standard input for `-`. */
export function readToken(path: string, readFiles: ReadFiles): string {
  const token = readFiles(path).trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Usage(`${path} holds no token; one line is expected`);
  return token;
}

/** An address in the form that is compared and called. */
export function addressOf(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Usage(`${text} is no address; expected something like https://cloud.example.net`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new Usage(`${text} is no address of an API; it begins with https:// or http://`);
  if (url.username || url.password)
    throw new Usage('an address holds no credentials; the token has a place of its own');
  return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`;
}

/** A control plane that was started from this checkout: its API's usual port, and the first credential it made. */
function ofThisCheckout(env: Environment): Profile {
  const home = env.BELAY_HOME || fileURLToPath(new URL('../.belay', import.meta.url));
  const url = `http://127.0.0.1:${env.BELAY_API_PORT || '18080'}`;
  try {
    return { url, token: readFileSync(join(home, 'admin-token'), 'utf8').trim() };
  } catch {
    return { url };
  }
}

/** Throws Usage when a named profile is absent, or a value can not be right. */
export function configurationOf(
  flags: ConnectionFlags,
  env: Environment,
  { readFiles, warn }: { readFiles: ReadFiles; warn: (message: string) => void },
): Configuration {
  const path = configurationPath(env);
  const file = readConfiguration(path, warn);
  const named = flags.profile || env.BELAY_PROFILE || file.profile;
  const name = named || 'default';
  const stored = file.profiles[name];
  if (named && !stored) {
    const known = Object.keys(file.profiles).join(', ') || 'none';
    throw new Usage(
      `there is no profile ${name} in ${path} (there: ${known}); make it with: belay configure --profile ${name}`,
    );
  }
  const profile: Profile = stored ?? ofThisCheckout(env);
  const url = addressOf(flags.url || env.BELAY_URL || profile.url || ofThisCheckout(env).url || '');
  // The token of one installation is never sent to the address of another.
  const sameApi = profile.url !== undefined && addressOf(profile.url) === url;
  const token = flags.tokenFile
    ? readToken(flags.tokenFile, readFiles)
    : (textOf(env.BELAY_TOKEN?.trim()) ?? (sameApi ? profile.token : undefined));
  const project = flags.project ?? textOf(env.BELAY_PROJECT) ?? (sameApi ? profile.project : undefined);
  return { url, profile: name, ...(token ? { token } : {}), ...(project ? { project } : {}) };
}
