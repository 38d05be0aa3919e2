/**
 * Whether what others generate from the OpenAPI document works: a client made by openapi-python-client deploys an instance on a simulated
 * cloud, reads, lists and removes it.
 *
 * Needs `openapi-python-client` (PyPI, tried with 0.29.1) on the path, or its path in OPENAPI_PYTHON_CLIENT; the Python beside it has what the
 * client needs. Says why it is skipped otherwise.
 *
 * `node test/clients/run.ts`
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { instanceBody } from '../../lab/provision.ts';
import { findOnPath } from '../../temporal/path.ts';
import { testHome } from '../../vitest.config.ts';
import { joinCloud, startSimulatedCloud } from '../support/cloud.ts';

const generator = process.env.OPENAPI_PYTHON_CLIENT ?? findOnPath('openapi-python-client');
const limitMs = 300_000;

async function must(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...env }, timeout: limitMs });
  const end = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? String(signal)));
  });
  if (end !== 0) throw new Error(`${command} ended with ${end}`);
}

async function withPython(program: string): Promise<void> {
  const folder = join(testHome, 'clients/python');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const cloud = await startSimulatedCloud({ hosts: 2, faultInjection: false });
  try {
    const { apiUrl } = cloud.address;
    const document = join(folder, 'openapi.json');
    writeFileSync(document, await (await fetch(`${apiUrl}/v1/openapi.json`)).text());
    const output = join(folder, 'belay_client');
    const configuration = join(folder, 'configuration.yml');
    // It would format what it has made by another program.
    writeFileSync(configuration, JSON.stringify({ post_hooks: [] }));
    const options = ['--config', configuration, '--output-path', output, '--meta', 'none'];
    // What it would leave out it warns of: that is a failure.
    await must(program, ['generate', '--path', document, ...options, '--fail-on-warning']);
    const { cloud: joined } = joinCloud(cloud.address);
    await must(
      join(dirname(realpathSync(program)), 'python3'),
      [fileURLToPath(new URL('deploy.py', import.meta.url)), folder],
      {
        BELAY_URL: apiUrl,
        BELAY_TOKEN: joined.tenant.token,
        INSTANCE: JSON.stringify(instanceBody(joined, 'from-python')),
      },
    );
  } finally {
    await cloud.stop();
  }
}

if (generator === undefined || !existsSync(generator)) {
  console.log('skipped: openapi-python-client is not here; install it, or name its path in OPENAPI_PYTHON_CLIENT');
} else {
  await withPython(generator).then(
    () => console.log('the generated client works'),
    (error: unknown) => {
      console.log(`the generated client does not work: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    },
  );
}
