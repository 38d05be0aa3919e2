/**
 * Schemathesis against a simulated cloud: requests made from the OpenAPI document, valid and broken, as the administrator and as a
 * tenant. Needs `schemathesis` (PyPI) on the path, or its path in SCHEMATHESIS; a running cloud's API may be named by BELAY_API_URL,
 * BELAY_TOKEN and BELAY_TENANT_TOKEN instead.
 *
 * `npx tsx test/schemathesis/run.ts [examples per operation]`
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { testHome } from '../../vitest.config.ts';
import { startSimulatedCloud } from '../support/cloud.ts';

const examples = process.argv[2] ?? '30';
const root = join(import.meta.dirname, '..', '..');
const inVenv = join(root, '.belay', 'schemathesis-venv', 'bin', 'schemathesis');
const command = process.env.SCHEMATHESIS ?? (existsSync(inVenv) ? inVenv : 'schemathesis');

interface Target {
  apiUrl: string;
  tokens: Record<string, string>;
  stop(): Promise<void>;
}

async function target(): Promise<Target> {
  const { BELAY_API_URL: apiUrl, BELAY_TOKEN: admin, BELAY_TENANT_TOKEN: tenant } = process.env;
  if (apiUrl && admin && tenant) return { apiUrl, tokens: { admin, tenant }, stop: async () => {} };
  const { address, stop } = await startSimulatedCloud({ hosts: 4, faultInjection: false });
  return { apiUrl: address.apiUrl, tokens: { admin: address.token, tenant: address.cloud.tenantToken }, stop };
}

/** Answers the exit code. */
function schemathesis(apiUrl: string, who: string, token: string): Promise<number> {
  const reports = join(testHome, 'schemathesis', who);
  mkdirSync(reports, { recursive: true });
  const args = [
    'run',
    `${apiUrl}/v1/openapi.json`,
    ...['--url', apiUrl],
    ...['--header', `Authorization: Bearer ${token}`],
    ...['--workers', '2'],
    ...['--max-examples', examples],
    ...['--phases', 'examples,coverage,fuzzing'],
    ...['--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance'],
    // Uploads have a test of their own, and a serial console that is followed does not end.
    ...['--exclude-operation-id', 'uploadImage', '--exclude-operation-id', 'serialLogOfInstance'],
    // So does a stream of events; a wait that waits is no slow answer.
    ...['--request-timeout', '70'],
    ...['--continue-on-failure', '--suppress-health-check', 'all', '--warnings', 'off', '--no-color'],
    ...['--report', 'junit', '--report-dir', reports, '--generation-database', ':memory:'],
  ];
  const child = spawn(command, args, { cwd: reports, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

const { apiUrl, tokens, stop } = await target();
let failed = false;
try {
  for (const [who, token] of Object.entries(tokens)) {
    const started = Date.now();
    const code = await schemathesis(apiUrl, who, token);
    console.log(
      `as ${who}: ${code === 0 ? 'no failure' : `exit code ${code}`} in ${Math.round((Date.now() - started) / 1000)} s`,
    );
    failed ||= code !== 0;
  }
} finally {
  await stop();
}
process.exit(failed ? 1 : 0);
