/** Temporal behind TLS: client and workers show certificates and an API key, and go on while both are renewed. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type CertificateFiles, ensureCertificate } from '../../runtime/certificateFiles.ts';
import { openTemporal, type TemporalSettings, temporalAccess } from '../../temporal/connection.ts';
import { connectWorkers, type WorkersConnection } from '../../workers/temporalConnection.ts';
import { type Gate, openGate } from '../support/temporalGate.ts';

const { temporalAddress } = inject('cloud');
const taskQueue = `echo-${crypto.randomUUID()}`;
const lookEveryMs = 50;
let dir: string;
let gate: Gate;
let files: CertificateFiles;
let settings: TemporalSettings;
let client: ReturnType<typeof openTemporal>;
let workers: WorkersConnection;
let end: () => Promise<void>;

const named = (setting: string, path: string) => ({ setting, path });
const serialOf = (path: string): string => new X509Certificate(readFileSync(path)).serialNumber;
const writeKey = (key: string): void => writeFileSync(join(dir, 'api-key'), `${key}\n`, { mode: 0o600 });
const echo = (word: string): Promise<unknown> =>
  client().workflow.execute('echo', { taskQueue, workflowId: crypto.randomUUID(), args: [word] });

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  dir = mkdtempSync(join(tmpdir(), 'belay-temporal-'));
  writeKey('first-key');
  gate = await openGate(temporalAddress, await ensureCertificate(dir, 'temporal.test', ['temporal.test']), 'first-key');
  files = await ensureCertificate(dir, 'belay', []);
  settings = {
    address: gate.address,
    namespace: 'belay',
    tls: {
      on: false,
      serverName: 'temporal.test',
      ca: named('BELAY_TEMPORAL_TLS_CA_FILE', files.ca),
      certificate: named('BELAY_TEMPORAL_TLS_CERTIFICATE_FILE', files.certificate),
      key: named('BELAY_TEMPORAL_TLS_KEY_FILE', files.key),
    },
    apiKeyFile: named('BELAY_TEMPORAL_API_KEY_FILE', join(dir, 'api-key')),
    apiKey: '',
  };
  client = openTemporal(settings, lookEveryMs);
  workers = await connectWorkers(settings, lookEveryMs);
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../support/echo.ts', import.meta.url)),
    logger,
  });
  const worker = await workers.worker((connection) =>
    Worker.create({
      connection,
      namespace: settings.namespace,
      taskQueue,
      workflowBundle,
      activities: { say: async (word: string) => word },
    }),
  );
  const done = worker.run();
  end = async () => {
    worker.shutdown();
    await done;
    await workers.close();
    await client().connection.close();
  };
}, 120_000);

afterAll(async () => {
  await end?.();
  await gate?.close();
  rmSync(dir, { recursive: true, force: true });
});

test('a workflow runs through TLS with a certificate and an API key, both read from files', async () => {
  expect(await echo('there and back')).toBe('there and back');
  expect(new Set(gate.shown)).toEqual(new Set([serialOf(files.certificate)]));
});

test('nobody gets in without a certificate, without the key, or to a server of another authority or name', async () => {
  const access = temporalAccess(settings)();
  const { tls = {}, apiKey = '' } = access;
  const attempt = async (change: Parameters<typeof Connection.connect>[0]): Promise<unknown> => {
    const connection = await Connection.connect({ ...access, connectTimeout: '2 s', ...change });
    return connection.close();
  };
  await expect(attempt({})).resolves.toBeUndefined();
  const { clientCertPair: _, ...withoutCertificate } = tls;
  await expect(attempt({ tls: withoutCertificate })).rejects.toThrow();
  await expect(attempt({ apiKey: `${apiKey}-guessed` })).rejects.toThrow();
  const other = await ensureCertificate(join(dir, 'other'), 'belay', []);
  await expect(attempt({ tls: { ...tls, serverRootCACertificate: readFileSync(other.ca) } })).rejects.toThrow();
  await expect(attempt({ tls: { ...tls, serverNameOverride: 'elsewhere.test' } })).rejects.toThrow();
});

test('a file that can not be used ends the start with the name of its setting', () => {
  const key = named('BELAY_TEMPORAL_TLS_KEY_FILE', '/absent/key.pem');
  expect(() => openTemporal({ ...settings, tls: { ...settings.tls, key } })).toThrow(
    'BELAY_TEMPORAL_TLS_KEY_FILE: /absent/key.pem does not exist',
  );
  const apiKeyFile = named('BELAY_TEMPORAL_API_KEY_FILE', '/absent/api-key');
  expect(() => openTemporal({ ...settings, apiKeyFile })).toThrow(
    'BELAY_TEMPORAL_API_KEY_FILE: /absent/api-key does not exist',
  );
  expect(
    temporalAccess({ ...settings, tls: { ...settings.tls, ca: null, certificate: null, key: null } })().tls,
  ).toEqual({
    serverNameOverride: 'temporal.test',
  });
});

test('a renewed certificate is shown by client and workers without a stop; the one before opens nothing any more', async () => {
  const before = serialOf(files.certificate);
  const connectionBefore = client().connection;
  await ensureCertificate(dir, 'belay', [], { renew: true });
  const renewed = serialOf(files.certificate);
  expect(renewed).not.toBe(before);
  await expect.poll(() => client().connection === connectionBefore).toBe(false);
  expect(await echo('with the next one')).toBe('with the next one');
  // Client and workers: each has come with it.
  await expect.poll(() => gate.shown.filter((serial) => serial === renewed).length).toBeGreaterThanOrEqual(2);
  gate.refuse(before);
  expect(await echo('and with it alone')).toBe('and with it alone');
});

test('a renewed API key is used by client and workers on the connections that they have', async () => {
  const connections = gate.shown.length;
  writeKey('second-key');
  await expect.poll(() => temporalAccess(settings)().apiKey).toBe('second-key');
  gate.apiKey = 'second-key';
  await expect.poll(() => echo('with the next key').catch(() => null), { timeout: 20_000 }).toBe('with the next key');
  expect(gate.shown.length).toBe(connections);
});
