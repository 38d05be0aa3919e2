#!/usr/bin/env node
/** Starts the command line: from the one file the build made of it, or from its sources when they are newer or nothing was built. */
import { readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const bundle = new URL('../generated/cli.mjs', import.meta.url);
const sources = fileURLToPath(new URL('.', import.meta.url));

function bundleIsCurrent() {
  const built = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return false;
  return readdirSync(sources, { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .every((name) => statSync(`${sources}/${name}`).mtimeMs <= built);
}

async function load() {
  if (bundleIsCurrent()) return import(bundle.href);
  const { register } = await import('tsx/esm/api');
  register();
  return import('./main.ts');
}

const { main } = await load();
await main();
