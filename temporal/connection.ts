/**
 * How this process reaches the Temporal Service: with or without TLS, a client's certificate, an API key. What is in files is looked at
 * again and again, so that it may be renewed while the process runs.
 */
import { Client, Connection, type TLSConfig } from '@temporalio/client';
import { config } from '../runtime/config.ts';
import { log } from '../runtime/log.ts';
import { type NamedFile, readSecretFile, type TlsFiles, tlsReader } from '../runtime/tls.ts';

export interface TemporalSettings {
  address: string;
  namespace: string;
  /** `on` without any file: the machine's own authorities are trusted, and no certificate is shown. */
  tls: TlsFiles & { on: boolean; serverName: string };
  apiKeyFile: NamedFile | null;
  apiKey: string;
}

/** What a connection is made with. */
export interface TemporalAccess {
  address: string;
  tls?: TLSConfig;
  apiKey?: string;
}

const complain = (why: string): void =>
  log.warn({ why }, 'a file for Temporal can not be used; going on with what was read before');

const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '');

/** Reads the files now, and again at each call. @throws Error that names the setting whose file can not be used now */
export function temporalAccess(settings: TemporalSettings): () => TemporalAccess {
  const { address, tls, apiKeyFile } = settings;
  const { ca, certificate, key, on, serverName } = tls;
  const read = tlsReader({ ca, certificate, key }, complain);
  const keyNow = (): string => {
    const apiKey = apiKeyFile ? readSecretFile(apiKeyFile).trim() : settings.apiKey;
    if (apiKeyFile && apiKey === '') throw new Error(`${apiKeyFile.setting}: ${apiKeyFile.path} is empty`);
    return apiKey;
  };
  let apiKey = keyNow();
  // A key is never sent in clear.
  const isTls = on || serverName !== '' || Boolean(ca || certificate || key) || apiKey !== '';
  return () => {
    try {
      apiKey = keyNow();
    } catch (error) {
      complain((error as Error).message);
    }
    const access: TemporalAccess = { address };
    if (apiKey !== '') access.apiKey = apiKey;
    if (!isTls) return access;
    const material = read();
    access.tls = {
      ...(serverName ? { serverNameOverride: serverName } : {}),
      ...(material.ca ? { serverRootCACertificate: bytes(material.ca) } : {}),
      ...(material.cert ? { clientCertPair: { crt: bytes(material.cert), key: bytes(material.key) } } : {}),
    };
    return access;
  };
}

/** Whether anything of it may change while the process runs. */
const isInFiles = ({ tls: { ca, certificate, key }, apiKeyFile }: TemporalSettings): boolean =>
  Boolean(ca || certificate || key || apiKeyFile);

const lookEveryMs = 10_000;

export interface Following {
  /** As it was read last. */
  access: TemporalAccess;
  stop(): void;
}

/**
 * Calls `renew` with what is in the files when that is something new; again at the next look, when it fails.
 *
 * @throws Error that names the setting whose file can not be used now
 */
export function followTemporal(
  settings: TemporalSettings,
  renew: (access: TemporalAccess, before: TemporalAccess) => Promise<void> | void,
  everyMs = lookEveryMs,
): Following {
  const read = temporalAccess(settings);
  const following: Following = { access: read(), stop: () => clearInterval(timer) };
  let busy = false;
  const look = async (): Promise<void> => {
    const next = read();
    if (busy || JSON.stringify(next) === JSON.stringify(following.access)) return;
    busy = true;
    try {
      await renew(next, following.access);
      following.access = next;
      log.info('what opens Temporal was renewed');
    } catch (error) {
      complain(error instanceof Error ? error.message : String(error));
    } finally {
      busy = false;
    }
  };
  const timer = isInFiles(settings) ? setInterval(() => void look(), everyMs) : undefined;
  timer?.unref();
  return following;
}

/** Whether two accesses differ in what only a new connection can change. */
export const needsNewConnection = (next: TemporalAccess, before: TemporalAccess): boolean =>
  JSON.stringify(next.tls) !== JSON.stringify(before.tls);

/** Answers to what was asked over the connection before come within this time. */
const graceMs = 60_000;

/**
 * Answers the client of the moment, to be asked for before each use. It connects at its first use, so that an API server starts while
 * Temporal is away.
 */
export function openTemporal(settings: TemporalSettings = config.temporal, everyMs = lookEveryMs): () => Client {
  const { namespace } = settings;
  const clientWith = ({ apiKey, ...access }: TemporalAccess): Client =>
    new Client({
      // The key of the moment, for every call.
      connection: Connection.lazy({ ...access, ...(apiKey ? { apiKey: () => following.access.apiKey ?? '' } : {}) }),
      namespace,
    });
  const following = followTemporal(
    settings,
    (next, before) => {
      if (!needsNewConnection(next, before)) return;
      const old = client;
      client = clientWith(next);
      setTimeout(() => void old.connection.close().catch(() => {}), graceMs).unref();
    },
    everyMs,
  );
  let client = clientWith(following.access);
  return () => client;
}
