#!/usr/bin/env node
/** Starts the command line: from the one file the build made of it, or from its sources when they are newer or nothing was built. */
import { readdirSync, statSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const bundle = new URL('../generated/cli.mjs', import.meta.url);
const sources = fileURLToPath(new URL('.', import.meta.url));
// Compiled once instead of at every call; an older Node knows nothing of it.
module.enableCompileCache?.(fileURLToPath(new URL('../.belay/compiled', import.meta.url)));

function isBundleCurrent() {
  const built = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return false;
  return readdirSync(sources, { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .every((name) => statSync(`${sources}/${name}`).mtimeMs <= built);
}

/** An older Node reads no TypeScript. */
const readsSources = process.features.typescript !== undefined && process.features.typescript !== false;

async function load() {
  if (isBundleCurrent()) return import(bundle.href);
  if (readsSources) return import('./main.ts');
  console.error('the command line is older than its sources, or was never built: node scripts/bootstrap.mjs');
  return import(bundle.href);
}

const { main } = await load();
await main();
