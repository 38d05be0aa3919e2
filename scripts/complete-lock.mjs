#!/usr/bin/env node
/**
 * Adds to package-lock.json the packages of other platforms that a partial registry lacks. npm leaves those out when it
 * writes the lock, and `npm ci` then refuses the lock as out of step with package.json. The added entries are never
 * fetched where their platform does not match.
 *
 * Run after every `npm install`: node scripts/complete-lock.mjs [package-lock.json]
 */
import { readFileSync, writeFileSync } from 'node:fs';

const OPERATING_SYSTEMS = new Set('aix android darwin freebsd linux netbsd openbsd openharmony sunos win32'.split(' '));
const CPUS = new Set('arm arm64 ia32 loong64 mips64el ppc64 riscv64 s390x wasm32 x64'.split(' '));

/** Reads what npm needs to know from a name such as `@swc/core-linux-arm-gnueabihf`; nothing if it names no platform. */
function platformOf(packageName) {
  const words = packageName.split('/').at(-1).split('-');
  const os = words.find((word) => OPERATING_SYSTEMS.has(word));
  const cpu = words.map((word) => (word.startsWith('armv') ? 'arm' : word)).find((word) => CPUS.has(word));
  if (os === undefined && cpu === undefined) return undefined;
  const isMusl = words.some((word) => word.startsWith('musl'));
  const isGlibc = os === 'linux' && words.some((word) => word.startsWith('gnu'));
  return {
    ...(os !== undefined && { os: [os] }),
    ...(cpu !== undefined && { cpu: [cpu] }),
    ...(isMusl ? { libc: ['musl'] } : isGlibc && { libc: ['glibc'] }),
  };
}

/** The entries that are missing from a lock, by their path in node_modules. */
function missingEntries({ packages }) {
  const missing = {};
  for (const [parentPath, { optionalDependencies = {}, engines, dev }] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(optionalDependencies)) {
      const path = `node_modules/${name}`;
      const platform = platformOf(name);
      const isExactVersion = /^\d/.test(version);
      if (platform === undefined || !isExactVersion || packages[path] || packages[`${parentPath}/${path}`]) continue;
      missing[path] = { version, ...(dev && { dev }), optional: true, ...platform, ...(engines && { engines }) };
    }
  }
  return missing;
}

const [file = 'package-lock.json'] = process.argv.slice(2);
const lock = JSON.parse(readFileSync(file, 'utf8'));
const missing = missingEntries(lock);
const entries = Object.entries({ ...lock.packages, ...missing });
lock.packages = Object.fromEntries(entries.sort(([a], [b]) => a.localeCompare(b, 'en')));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${file}: ${Object.keys(missing).length} packages of other platforms added`);
