/**
 * Schemathesis against a simulated cloud: requests made from the OpenAPI document, valid and broken, to every operation of it, as a
 * tenant and as the administrator. It knows the ids of what is there, so that much of what it asks for is really done.
 *
 * Needs `schemathesis` (PyPI) on the path, or its path in SCHEMATHESIS. Ends with one line that says whether there was a failure.
 *
 * `node test/schemathesis/run.ts [examples per operation]`
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Api, openApi } from '../../lab/api.ts';
import { testHome } from '../../vitest.config.ts';
import { startSimulatedCloud } from '../support/cloud.ts';
import { configurationFor } from './configuration.ts';
import { stock } from './stock.ts';

const examples = process.argv[2] ?? '10';
const command = process.env.SCHEMATHESIS ?? 'schemathesis';
const started = Date.now();

/** What is read of Schemathesis' own report. */
interface Report {
  operations: { total: number; tested: number };
  test_cases: { generated: number };
  failures: { title: string; count: number }[];
  errors: { title: string; count: number }[];
  /** By operation and phase: how many valid requests were accepted. */
  valid_rates: Record<string, Record<string, { accepted: number }>>;
}

/** Answers what is wrong; nothing when all is well. */
async function schemathesis(api: Api, who: string, simulatorUrl: string): Promise<string[]> {
  const folder = join(testHome, 'schemathesis', who);
  mkdirSync(folder, { recursive: true });
  const configuration = join(folder, 'schemathesis.toml');
  writeFileSync(configuration, await configurationFor(api, simulatorUrl));
  const reportPath = join(folder, 'report.json');
  rmSync(reportPath, { force: true });
  const args = [
    ...['--config-file', configuration, 'run', `${api.url}/v1/openapi.json`],
    ...['--url', api.url],
    ...['--header', `Authorization: Bearer ${api.token}`],
    ...['--workers', '2'],
    ...['--max-examples', examples],
    ...['--phases', 'coverage,fuzzing'],
    ...['--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance'],
    ...['--continue-on-failure', '--suppress-health-check', 'all', '--warnings', 'off', '--no-color'],
    ...['--generation-database', ':memory:', '--report', 'json', '--report-json-path', reportPath],
  ];
  const child = spawn(command, args, { cwd: folder, stdio: 'inherit' });
  const end = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? String(signal)));
  });
  // It opens its report at the start and fills it at the end.
  const text = existsSync(reportPath) ? readFileSync(reportPath, 'utf8') : '';
  if (text === '') return [`ended with ${end}, without a report`];
  const report = JSON.parse(text) as Report;
  const { operations, test_cases: requests } = report;
  const accepted = Object.values(report.valid_rates).filter((phases) =>
    Object.values(phases).some((rate) => rate.accepted > 0),
  );
  console.log(
    `as ${who}: ${requests.generated} requests to ${operations.tested} of ${operations.total} operations, ${accepted.length} of which were really done`,
  );
  const wrong = [...report.failures, ...report.errors].map(({ title, count }) => `${title} (${count})`);
  if (end !== 0 && wrong.length === 0) wrong.push(`ended with ${end}`);
  if (operations.tested !== operations.total) wrong.push('operations that were not asked');
  // Whoever has lost its right on the way was refused everything from there on.
  const { status } = await api.raw('GET', '/v1/networks');
  if (status !== 200) wrong.push(`in the end its key is answered ${status}`);
  return wrong;
}

const cloud = await startSimulatedCloud({
  hosts: 8,
  faultInjection: false,
  environment: { BELAY_REQUESTS_PER_MINUTE: '10000000' },
});
const wrong: string[] = [];
try {
  const { address } = cloud;
  const admin = openApi(address.apiUrl, address.token);
  const tenant = admin.as(address.cloud.tenantToken);
  await stock(admin, { ...address.cloud, tenant });
  // The tenant first: the administrator may remove what the tenant has.
  for (const [who, api] of [
    ['tenant', tenant],
    ['administrator', admin],
  ] as const)
    wrong.push(...(await schemathesis(api, who, address.simulatorUrl)).map((what) => `as ${who}: ${what}`));
} finally {
  await cloud.stop();
}
const seconds = Math.round((Date.now() - started) / 1000);
console.log(`Schemathesis: ${wrong.length === 0 ? 'no failure' : wrong.join('; ')}, ${seconds} s`);
process.exit(wrong.length === 0 ? 0 : 1);
