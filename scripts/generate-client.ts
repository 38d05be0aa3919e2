/**
 * Writes what clients of the API are made from: `generated/openapi.json` (the document) and `generated/cli.mjs` (the command line in one
 * file, which starts in a third of the time).
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { openApiDocument } from '../api/openapi.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'generated');

/** Whole or not at all: a command that starts meanwhile reads either the old file or the new one. */
async function write(name: string, text: string): Promise<void> {
  const path = join(folder, name);
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}

export async function generateClient(): Promise<void> {
  await mkdir(folder, { recursive: true });
  await write('openapi.json', JSON.stringify(openApiDocument()));
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['cli/main.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    legalComments: 'none',
    minify: true,
    keepNames: true,
    // commander is CommonJS and requires Node's own modules.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  for (const { text: bundle } of outputFiles) await write('cli.mjs', bundle);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const started = performance.now();
  await generateClient();
  console.log(`generated/: openapi.json, cli.mjs in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}
