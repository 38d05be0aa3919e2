import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { agentClock } from '../clock.ts';
import { type AgentContext, callHandlers, taskHandlers } from './calls.ts';
import { eventSource } from './events.ts';
import { openFence } from './fenceFile.ts';
import { filePools } from './files.ts';
import { heartbeat } from './heartbeat.ts';
import { openLibvirt } from './libvirt.ts';
import { log } from './log.ts';
import { ovsdb } from './ovsdb.ts';
import { exists, PATHS, writeFileAtomically } from './paths.ts';
import { rbdHelper } from './rbd.ts';
import RBD_HELPER from './rbd_helper.py';
import { trimSerialLogs } from './serial.ts';
import { requestListener } from './server.ts';
import { storage } from './storage.ts';
import { taskRegistry } from './tasks.ts';

/**
 * The agent: serves the protocol on a unix socket, `node agent-<version>.js [socket]`.
 *
 * It holds nothing that matters: what it knows it reads from libvirt, Ceph, Open vSwitch and its files, so it may be killed
 * and replaced at any time, and guests do not notice. Whose orders are old is in a file of its own, `PATHS.fence`.
 */

const TRIM_EVERY_MS = 60_000;
const STOP_TIMEOUT_MS = 5_000;

const socketPath = process.argv[2] ?? process.env.BELAY_AGENT_SOCKET ?? join(PATHS.run, 'agent.sock');
/** As `bundleAgent` counts it. */
const version = createHash('sha256')
  .update(readFileSync(process.argv[1] ?? ''))
  .digest('hex')
  .slice(0, 12);
const bootId = randomUUID();

async function main() {
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o755 });
  await mkdir(PATHS.state, { recursive: true, mode: 0o700 });
  await mkdir(PATHS.run, { recursive: true, mode: 0o755 });
  await removeLeftovers();
  const helperPath = join(PATHS.run, `rbd_helper-${version}.py`);
  await writeFileAtomically(helperPath, RBD_HELPER, 0o600);

  const libvirt = openLibvirt(PATHS.libvirtSocket);
  const db = ovsdb(PATHS.ovsdbSocket);
  const rbd = rbdHelper(helperPath, log);
  const pools = { storage: storage(libvirt, rbd), files: filePools(), log };
  const context: AgentContext = {
    version,
    libvirt,
    db,
    rbd,
    ...pools,
    heartbeat: heartbeat(pools, { keptAt: PATHS.heartbeat, bootId }),
    runningTasks: () => tasks.running(),
  };
  const tasks = taskRegistry(taskHandlers(context));
  let switchAnswers = false;
  const lookAtSwitch = async () => {
    switchAnswers = await db.transact([{ op: 'comment', comment: 'belay' }]).then(
      () => true,
      () => false,
    );
  };
  const fence = await openFence(PATHS.fence, (reason) => log('error', 'the fence is unreadable', { reason }));
  let isEnding = false;
  const listener = requestListener({
    calls: callHandlers(context),
    tasks,
    events: eventSource(libvirt, bootId),
    fence,
    clock: agentClock(bootId),
    isEnding: () => isEnding,
    health: () => {
      void lookAtSwitch();
      return { agent: version, bootId, hostname: os.hostname(), libvirt: libvirt.isConnected, switch: switchAnswers };
    },
    log,
  });
  await lookAtSwitch();

  // Kept channels end when their client ends them: closing one just as it is used would look like a lost connection.
  const server = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0 }, listener);
  await listen(server);
  log('info', 'agent serves', { version, bootId, socket: socketPath, node: process.versions.node });

  const trimming = setInterval(() => {
    trim(libvirt).catch((error) => log('warn', 'serial logs were not trimmed', { reason: String(error) }));
  }, TRIM_EVERY_MS);
  trimming.unref();

  const stop = (signal: string) => {
    log('info', 'agent stops', { signal });
    isEnding = true;
    // Requests under way get their answers; streams and long polls are cut after that.
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), STOP_TIMEOUT_MS).unref();
    rmSocket().catch(() => {});
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  process.on('exit', () => rbd.close());
}

/** Workspaces of an agent that was killed in the middle. */
async function removeLeftovers(): Promise<void> {
  await rm(join(PATHS.state, 'imports'), { recursive: true, force: true });
  for (const name of await readdir(PATHS.run)) {
    if (/^(seed-|rbd_helper-)/.test(name)) await rm(join(PATHS.run, name), { recursive: true, force: true });
  }
}

async function trim(libvirt: AgentContext['libvirt']): Promise<void> {
  const session = await libvirt.session();
  const domains = await session.listDomains();
  await trimSerialLogs(new Set(domains.map(({ uuid }) => uuid)));
}

/** A new agent may start while the old one still answers its last requests: whoever comes last has the socket. */
async function listen(server: http.Server): Promise<void> {
  if (await exists(socketPath)) await rm(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(socketPath, resolve);
  });
  await chmod(socketPath, 0o600);
}

/** Only if it is still ours: a successor may have taken its place. */
async function rmSocket(): Promise<void> {
  const answers = await new Promise<boolean>((resolve) => {
    const probe = net.connect(socketPath, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
  if (!answers) await rm(socketPath, { force: true });
}

main().catch((error) => {
  log('error', 'agent can not start', { reason: error instanceof Error ? error.stack : String(error) });
  process.exit(1);
});
