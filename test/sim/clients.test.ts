/**
 * Whether what others generate from the OpenAPI document works: each client deploys an instance, reads, lists and removes it. The generators
 * come from their registries, in the versions that are pinned under test/clients/; where none answers, the test is skipped and says so.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, inject, type TestContext, test } from 'vitest';
import { instanceBody } from '../../lab/provision.ts';
import { ensureGo } from '../../temporal/go.ts';
import { findOnPath } from '../../temporal/path.ts';
import { testHome } from '../../vitest.config.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { cloud } = joinCloud(address);
const limitMs = 300_000;
const home = join(testHome, 'clients');
const sources = fileURLToPath(new URL('../clients/', import.meta.url));
const document = join(home, 'openapi.json');

beforeAll(async () => {
  mkdirSync(home, { recursive: true });
  writeFileSync(document, await (await fetch(`${address.apiUrl}/v1/openapi.json`)).text());
});

/** Runs a program to its end. Throws all that it has said when it fails. */
async function must(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, timeout: limitMs });
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => said.push(chunk));
  const end = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? String(signal)));
  });
  if (end !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${end}: ${Buffer.concat(said).toString()}`);
}

/** No test is passed over in silence. */
function skip(context: TestContext, reason: string): void {
  console.log(`skipped: ${reason}`);
  context.skip(reason);
}

/** Brings what the test needs from a registry, or skips the test. */
async function bring(context: TestContext, what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    skip(context, `${what} can not be had here: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const caller = (name: string): NodeJS.ProcessEnv => ({
  BELAY_URL: address.apiUrl,
  BELAY_TOKEN: cloud.tenant.token,
  INSTANCE: JSON.stringify(instanceBody(cloud, name)),
});

test(
  'a client made by openapi-python-client deploys an instance',
  async (context) => {
    const python = findOnPath('python3');
    if (python === undefined) return skip(context, 'there is no python3');
    const packages = join(home, 'python-packages');
    const requirements = join(sources, 'python/requirements.txt');
    const complete = join(packages, 'complete');
    if (!existsSync(complete))
      await bring(context, 'openapi-python-client', async () => {
        const options = ['--quiet', '--no-deps', '--upgrade', '--target', packages, '-r', requirements];
        await must(python, ['-m', 'pip', 'install', ...options], home);
        writeFileSync(complete, '');
      });
    const folder = join(home, 'python');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    // It would format what it has made by another program.
    const configuration = join(folder, 'configuration.yml');
    writeFileSync(configuration, JSON.stringify({ post_hooks: [] }));
    const output = join(folder, 'belay_client');
    const options = ['--config', configuration, '--output-path', output, '--meta', 'none'];
    // What it would leave out it warns of: that is a failure.
    await must(
      python,
      ['-m', 'openapi_python_client', 'generate', '--path', document, ...options, '--fail-on-warning'],
      folder,
      { PYTHONPATH: packages },
    );
    await must(python, [join(sources, 'python/deploy.py'), folder], folder, {
      ...caller('from-python'),
      PYTHONPATH: packages,
    });
  },
  limitMs,
);

test(
  'a client made by oapi-codegen deploys an instance',
  async (context) => {
    const folder = join(home, 'go');
    rmSync(folder, { recursive: true, force: true });
    cpSync(join(sources, 'go'), folder, { recursive: true });
    mkdirSync(join(folder, 'belay'));
    let go = { command: '', env: {} as NodeJS.ProcessEnv };
    await bring(context, 'oapi-codegen', async () => {
      go = await ensureGo({ mayInstall: false, log: console.log });
      await must(go.command, ['mod', 'download'], folder, go.env);
    });
    const options = ['-package', 'belay', '-generate', 'types,client', '-o', 'belay/client.go'];
    await must(go.command, ['tool', 'oapi-codegen', ...options, document], folder, go.env);
    await must(go.command, ['run', '.'], folder, { ...go.env, ...caller('from-go') });
  },
  limitMs,
);
