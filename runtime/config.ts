/**
 * Everything a process of the control plane can be told, from the environment. Names, meanings and defaults are listed in
 * docs/configuration.md.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { NamedFile } from './tls.ts';

const env = process.env;

function number(name: string, fallback: number): number {
  const value = env[name];
  if (value === undefined || value === '') return fallback;
  const parsed = Number(value);
  if (!Number.isInteger(parsed) || parsed < 0) throw new Error(`${name} must be a whole number, found "${value}"`);
  return parsed;
}

const file = (setting: string): NamedFile | null => {
  const path = env[setting];
  return path ? { setting, path } : null;
};

/** Where all state of a one-machine installation lies. */
export const home = resolve(env.BELAY_HOME ?? join(import.meta.dirname, '..', '.belay'));

export const config = {
  home,
  /** Identifies this process in leases and logs. */
  processName: `${env.BELAY_ROLE ?? 'belay'}-${process.pid}`,
  databaseUrl: env.DATABASE_URL ?? '',
  databaseConnections: number('BELAY_DATABASE_CONNECTIONS', 16),
  openConnections: number('BELAY_OPEN_CONNECTIONS', 4),
  searchConnections: number('BELAY_SEARCH_CONNECTIONS', 8),
  /** Those of a dispatcher: its loops are as many as they are, and callbacks must not take theirs. */
  dispatcherConnections: 6,
  callbackConnections: 4,
  temporal: {
    address: env.BELAY_TEMPORAL_ADDRESS ?? '127.0.0.1:7233',
    namespace: env.BELAY_TEMPORAL_NAMESPACE ?? 'belay',
    tls: {
      on: env.BELAY_TEMPORAL_TLS === '1',
      ca: file('BELAY_TEMPORAL_TLS_CA_FILE'),
      certificate: file('BELAY_TEMPORAL_TLS_CERTIFICATE_FILE'),
      key: file('BELAY_TEMPORAL_TLS_KEY_FILE'),
      serverName: env.BELAY_TEMPORAL_TLS_SERVER_NAME ?? '',
    },
    apiKeyFile: file('BELAY_TEMPORAL_API_KEY_FILE'),
    apiKey: env.BELAY_TEMPORAL_API_KEY ?? '',
  },
  apiHost: env.BELAY_API_HOST ?? '127.0.0.1',
  apiPort: number('BELAY_API_PORT', 8080),
  metricsPort: number('BELAY_METRICS_PORT', 0),
  region: env.BELAY_REGION ?? 'local',
  /** `ssl:…`, `tcp:…` or `unix:…` of OVN's databases. */
  ovnNorthbound: env.BELAY_OVN_NORTHBOUND ?? '',
  ovnSouthbound: env.BELAY_OVN_SOUTHBOUND ?? '',
  ovnTls: {
    ca: file('BELAY_OVN_TLS_CA_FILE'),
    certificate: file('BELAY_OVN_TLS_CERTIFICATE_FILE'),
    key: file('BELAY_OVN_TLS_KEY_FILE'),
  },
  /** Simulated hosts are refused unless this is set. */
  allowSimulatedHosts: env.BELAY_ALLOW_SIMULATED_HOSTS === '1',
  /** Fault rules are read only when this is set: never in production. */
  faultInjection: env.BELAY_FAULT_INJECTION === '1',
  requestsAtOnce: number('BELAY_REQUESTS_AT_ONCE', 32),
  requestsPerMinute: number('BELAY_REQUESTS_PER_MINUTE', 60_000),
  refusalsPerMinute: number('BELAY_REFUSALS_PER_MINUTE', 120),
  bodyLimitBytes: number('BELAY_BODY_LIMIT_BYTES', 1_048_576),
  uploadLimitBytes: number('BELAY_UPLOAD_LIMIT_BYTES', 1_099_511_627_776),
  uploadLeastBytes: number('BELAY_UPLOAD_LEAST_BYTES', 262_144),
  uploadWindowSeconds: number('BELAY_UPLOAD_WINDOW_SECONDS', 30),
  bodySeconds: number('BELAY_BODY_SECONDS', 30),
  streamsPerKey: number('BELAY_STREAMS_PER_KEY', 16),
  streamsPerAccount: number('BELAY_STREAMS_PER_ACCOUNT', 32),
  waitsPerKey: number('BELAY_WAITS_PER_KEY', 256),
  waitsPerAccount: number('BELAY_WAITS_PER_ACCOUNT', 512),
  uploadsPerKey: number('BELAY_UPLOADS_PER_KEY', 8),
  uploadsPerAccount: number('BELAY_UPLOADS_PER_ACCOUNT', 16),
  queryCost: number('BELAY_QUERY_COST', 500_000),
  queryMilliseconds: number('BELAY_QUERY_MILLISECONDS', 5_000),
  logLevel: env.BELAY_LOG_LEVEL ?? 'info',
} as const;

/** The installation's 32-byte key for secrets at rest: `BELAY_SECRET_KEY` (64 hex digits) or the file it names. */
export function installationKey(): Buffer {
  const file = env.BELAY_SECRET_KEY_FILE;
  const hex = (file ? readFileSync(file, 'utf8') : (env.BELAY_SECRET_KEY ?? '')).trim();
  if (!/^[0-9a-f]{64}$/i.test(hex))
    throw new Error('BELAY_SECRET_KEY (or the file in BELAY_SECRET_KEY_FILE) must hold 64 hex digits');
  return Buffer.from(hex, 'hex');
}
