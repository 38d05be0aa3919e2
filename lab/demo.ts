/**
 * Belay at work, on one machine: `npm run demo`.
 *
 *     npm run demo                    real hosts, Ceph and OVN as root on Debian; simulated ones otherwise
 *     npm run demo -- --simulated     100 simulated hosts, no packages
 *     npm run demo -- --once          ends after the show, with exit code 0 or 1, and cleans up
 *     npm run demo -- down            removes all traces
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { claimPidFile, stopByPidFile, writeOwnPidFile } from '../postgres/owned-process.ts';
import { openBoard } from '../runtime/progress.mjs';
import { soonestTemporal } from '../temporal/binaries.ts';
import { type Api, type OperationView, openApi, type Resource } from './api.ts';
import { choosePorts } from './ports.ts';
import { type Cloud, instanceBody, provision, type Underlay } from './provision.ts';
import { downLab, hasLab, upLab } from './real/lab.ts';
import { serialUntil } from './serial.ts';
import { startSimulator } from './simulated/simulator.ts';
import { type OvnAddresses, type Stack, startStack, stopStack } from './stack.ts';
import { realUnderlay, simulatedUnderlay } from './underlay.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const home = process.env.BELAY_HOME ?? join(root, '.belay');
const args = new Set(process.argv.slice(2));
const isRoot = process.getuid?.() === 0 && process.platform === 'linux';
const simulated = args.has('--simulated') || !isRoot;
const once = args.has('--once');
const pidFile = join(home, 'demo.pid');
const stateDirectory = join(home, simulated ? 'demo-simulated' : 'demo');

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
const board = openBoard();
const say = (text: string): void => board.say(text);
const heading = (text: string): void => say(`\n${bold(text)}`);

interface Row {
  what: string;
  seconds: number;
  note: string;
}
const rows: Row[] = [];

/** Of what takes longer than a moment, on two cores; shown while it is at work. */
const controlPlane = 'PostgreSQL, Temporal, API, workers';
const usualSeconds: Record<string, number> = { lab: 20, [controlPlane]: 15, 'web-1 boots': 8, 'web-2 boots': 8 };

async function timed<T>(what: string, work: () => Promise<T>, note: (result: T) => string = () => ''): Promise<T> {
  const started = performance.now();
  const part = board.begin(what, { seconds: usualSeconds[what] ?? 0 });
  try {
    const result = await work();
    rows.push({ what, seconds: (performance.now() - started) / 1000, note: note(result) });
    part.end(note(result));
    return result;
  } catch (error) {
    part.drop();
    throw error;
  }
}

/** The machines below: what the API is told of them, and what only the show does to them. */
interface Machines {
  underlay: Underlay;
  ovn: OvnAddresses;
  stop(): Promise<void>;
}

async function machines(): Promise<Machines> {
  if (simulated) {
    const simulator = await startSimulator({ hosts: 100, migrationMs: 800 });
    const hosts = simulator.hostNames().map((name, index) => ({ name, address: simulator.hostAddress(index) }));
    return { underlay: simulatedUnderlay(simulator, hosts), ovn: simulator.ovn, stop: () => simulator.stop() };
  }
  const lab = await upLab(home, (line) => say(`  ${line}`), board);
  return { underlay: realUnderlay(lab), ovn: lab.ovn, stop: () => downLab(home, { keep: !once }) };
}

/** Prints each step of an operation as it happens. */
function live(): (operation: OperationView) => void {
  const told = new Map<string, string>();
  return (operation) => {
    for (const { index, name, state, startedAt, endedAt, error } of operation.steps) {
      const key = `${index}`;
      if (told.get(key) === state || state === 'running' || state === 'undoing') continue;
      told.set(key, state);
      const ms = endedAt ? new Date(endedAt).getTime() - new Date(startedAt).getTime() : 0;
      say(
        `    ${state === 'done' ? '+' : state === 'undone' ? '-' : '!'} ${name.padEnd(30)} ${state.padEnd(8)} ${ms ? `${ms} ms` : ''}${error && state === 'failed' ? `  ${error.message}` : ''}`,
      );
    }
  };
}

const addressOf = async (api: Api, instanceId: string): Promise<string> => {
  const { items } = await api.call<{ items: { address: string }[] }>(
    'GET',
    `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${instanceId}"`)}`,
  );
  return items[0]?.address ?? '';
};

/** As the tenant; where it landed only the operator sees. */
async function deploy(
  admin: Api,
  cloud: Cloud,
  name: string,
  more: Record<string, unknown> = {},
): Promise<{ instance: Resource; operation: OperationView }> {
  const operation = await cloud.tenant.done('POST', '/v1/instances', instanceBody(cloud, name, more), live());
  return { instance: await admin.call('GET', `/v1/instances/${operation.targetId}`), operation };
}

const hostName = (cloud: Cloud, id: unknown): string => cloud.hosts.find((host) => host.id === id)?.name ?? String(id);

/** One guest answers what the other sends it once a second over one connection, and tells on its console. */
const listener = `#!/bin/sh
nc -ll -p 7777 -e /bin/cat </dev/null >/dev/null 2>&1 &
`;
const talker = (address: string): string => `#!/bin/sh
( n=0; while true; do n=$((n+1)); echo "beat $n"; sleep 1; done | nc ${address} 7777 | while read line; do echo "TCP $line" >/dev/ttyS0; done; echo "TCP closed" >/dev/ttyS0 ) &
`;

/** The last whole line that the talker wrote. */
const lastBeat = (text: string): string | null => text.match(/TCP beat \d+(?=\r?\n)/g)?.at(-1) ?? null;
const beatsOf = (line: string): number => Number(/\d+/.exec(line)?.[0] ?? 0);

async function show(stack: Stack, underlay: Underlay): Promise<Cloud> {
  const admin = openApi(stack.apiUrl, stack.token);
  heading('A cloud, through the public API and nothing else');
  const cloud = await provision(admin, underlay, timed);
  const { tenant } = cloud;
  const inOrder = [...cloud.hosts];

  heading('Two instances on two hosts, as the tenant');
  const first = await timed(
    'deploy web-1',
    () => deploy(admin, cloud, 'web-1', simulated ? {} : { userData: listener }),
    ({ instance }) => `on ${hostName(cloud, instance.hostId)}`,
  );
  const ready = await timed(
    'web-1 boots',
    () => serialUntil(tenant, first.instance.id, /READY .*(?=\r?\n)/),
    (line) => line,
  );
  const address = await addressOf(tenant, first.instance.id);
  const second = await timed(
    'deploy web-2',
    () => deploy(admin, cloud, 'web-2', simulated ? {} : { userData: talker(address) }),
    ({ instance }) => `on ${hostName(cloud, instance.hostId)}`,
  );
  await timed(
    'web-2 boots',
    () => serialUntil(tenant, second.instance.id, /READY .*(?=\r?\n)/),
    (line) => line,
  );
  if (first.instance.hostId === second.instance.hostId) throw new Error('both instances are on one host');
  if (!ready) throw new Error('web-1 did not come up');
  if (!simulated)
    await timed(
      'TCP from web-2 to web-1',
      () => serialUntil(tenant, second.instance.id, /TCP beat \d+/),
      (line) => line,
    );

  heading('Live migration, with the connection open');
  const target = inOrder.find((host) => host.id !== first.instance.hostId && host.id !== second.instance.hostId);
  const before = simulated ? 0 : beatsOf(await serialUntil(tenant, second.instance.id, lastBeat));
  await timed(
    `migrate web-2 to ${target?.name}`,
    () => tenantOrAdminMigrate(admin, second.instance.id, target?.id, live()),
    (operation) => {
      const result = operation.result as { downtimeMs?: number } | null;
      return result?.downtimeMs ? `downtime ${Math.round(result.downtimeMs)} ms` : '';
    },
  );
  if (!simulated)
    await timed(
      'the connection is still the same one',
      () =>
        serialUntil(tenant, second.instance.id, (text) => {
          if (text.includes('TCP closed')) throw new Error('the connection broke');
          const line = lastBeat(text);
          return line !== null && beatsOf(line) > before + 2 ? `${line}, ${before} before` : null;
        }),
      (line) => line,
    );

  heading('Snapshot of a running instance, and a volume made from it');
  const snapshot = await timed('snapshot of web-1, file systems frozen', () =>
    tenant.done(
      'POST',
      '/v1/snapshots',
      { name: 'before-upgrade', volumeId: first.instance.rootVolumeId, quiesce: true },
      live(),
    ),
  );
  await timed('new volume from the snapshot', () =>
    tenant.done(
      'POST',
      '/v1/volumes',
      {
        name: 'copy',
        zoneId: cloud.zone.id,
        volumeTypeId: cloud.volumeTypes[0]?.id,
        source: { snapshotId: snapshot.targetId },
      },
      live(),
    ),
  );

  heading('A deploy that fails on purpose');
  await failOnPurpose(admin, tenant, cloud);
  return cloud;
}

/** The target host is the operator's to choose; a tenant would leave it out. */
async function tenantOrAdminMigrate(
  admin: Api,
  instanceId: string,
  hostId: string | undefined,
  onChange: (operation: OperationView) => void,
): Promise<OperationView> {
  return admin.done('POST', `/v1/instances/${instanceId}/actions/migrate`, hostId ? { hostId } : {}, onChange);
}

async function failOnPurpose(admin: Api, tenant: Api, cloud: Cloud): Promise<void> {
  const count = async (plural: string): Promise<number> =>
    (await tenant.call<{ count: number }>('GET', `/v1/${plural}?count=exact&pageSize=1`)).count;
  const counts = async (): Promise<string> =>
    JSON.stringify(await Promise.all(['instances', 'volumes', 'network-interfaces'].map(count)));
  const before = await counts();
  const targetId = crypto.randomUUID();
  const { items } = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/settings?filter=${encodeURIComponent('name = "fault.rules"')}`,
  );
  const rules = (value: unknown): Promise<unknown> => admin.call('PATCH', `/v1/settings/${items[0]?.id}`, { value });
  await rules([{ targetId, step: 'hypervisor.boot', fault: 'failAfter', times: 1 }]);
  try {
    await timed(
      'deploy web-3, whose boot step is made to fail',
      async () => {
        const accepted = await tenant.call<OperationView>(
          'POST',
          '/v1/instances',
          instanceBody(cloud, 'web-3', { requestedId: targetId }),
        );
        // As the operator, who is told what the systems below have said.
        return admin.settled(accepted.id, live());
      },
      (operation) => `${operation.state}: ${operation.error?.message}`,
    );
  } finally {
    await rules([]);
  }
  const after = await counts();
  if (after !== before) throw new Error(`something was left over: ${before} before, ${after} after`);
  say(`  nothing is left of it: instances, volumes and interfaces number ${after}, as before`);
}

function summary(): void {
  heading('What happened');
  const width = Math.max(...rows.map(({ what }) => what.length));
  for (const { what, seconds, note } of rows)
    say(`  ${what.padEnd(width)}  ${seconds.toFixed(1).padStart(6)} s  ${note}`);
}

async function down(): Promise<void> {
  // One that runs stops what it has started, and would start again what is stopped behind its back.
  await stopByPidFile(pidFile, 'SIGTERM', 60_000);
  for (const directory of ['demo', 'demo-simulated']) {
    await stopStack(join(home, directory));
    rmSync(join(home, directory), { recursive: true, force: true });
  }
  // The lab that is up may be another checkout's: nothing of ours.
  if (isRoot && hasLab(home)) await downLab(home, { keep: false });
  say('all traces of the demo are gone');
}

async function main(): Promise<number> {
  const unknown = [...args].filter((arg) => !['--simulated', '--once', 'down'].includes(arg));
  if (unknown.length > 0) {
    say(`unknown: ${unknown.join(' ')}; possible are --simulated, --once, down`);
    return 2;
  }
  if (args.has('down')) {
    await down();
    return 0;
  }
  await claimPidFile('the demo', pidFile, 'SIGTERM');
  writeOwnPidFile(pidFile);
  const stopping = new Promise<void>((resolve) => process.once('SIGINT', resolve).once('SIGTERM', () => resolve()));
  const stopped = stopping.then((): never => {
    throw new Error('it was asked to stop');
  });
  stopped.catch(() => {});
  let below: Machines | undefined;
  let stack: Stack | undefined;
  let failed = false;
  const clean = async (): Promise<void> => {
    await stack?.stop();
    await below?.stop();
    if (once) rmSync(stateDirectory, { recursive: true, force: true });
    rmSync(pidFile, { force: true });
  };
  try {
    // A demo always begins with an empty cloud; what a run before it left is cleared away.
    await stopStack(stateDirectory);
    rmSync(stateDirectory, { recursive: true, force: true });
    const ports = await choosePorts(process.env, say);
    if (!simulated) await downLab(home, { keep: false });
    heading(
      simulated
        ? 'One hundred simulated hosts, Ceph, OVN'
        : 'Three real hosts, Ceph, OVN – each in namespaces of its own',
    );
    below = await timed(simulated ? 'simulator' : 'lab', machines);
    heading('The control plane');
    const { ovn, underlay } = below;
    stack = await timed(controlPlane, () =>
      startStack({
        home: stateDirectory,
        temporal: () => soonestTemporal(home, board),
        ports,
        ovn,
        allowSimulatedHosts: simulated,
        faultInjection: true,
        log: (line) => say(`  ${line}`),
      }),
    );
    const cloud = await Promise.race([show(stack, underlay), stopped]);
    summary();
    if (!once) {
      addresses(stack, cloud);
      await stopping;
      say('\nstopping');
    }
  } catch (error) {
    failed = true;
    say(`\nthe demo failed: ${error instanceof Error ? error.message : String(error)}`);
    if (stack && existsSync(stack.logDirectory)) {
      say(`logs: ${stack.logDirectory}`);
      if (once)
        for (const role of ['control', 'host', 'api', 'dispatcher'])
          say(
            `--- ${role}\n${readFileSync(join(stack.logDirectory, `${role}.log`), 'utf8')
              .split('\n')
              .slice(-15)
              .join('\n')}`,
          );
    }
  }
  await clean();
  return failed ? 1 : 0;
}

function addresses(stack: Stack, cloud: Cloud): void {
  heading('It goes on running; Ctrl-C stops everything');
  say(`  API            ${stack.apiUrl}/v1`);
  say(`  API reference  ${stack.apiUrl}/docs`);
  say(`  Temporal       ${stack.temporalUrl}`);
  say(`  metrics        ${stack.apiUrl}/metrics`);
  heading('Go on with');
  say(`  export PATH=${root}bin:$PATH BELAY_URL=${stack.apiUrl} BELAY_TOKEN=${cloud.tenantToken}`);
  say('  belay instances list');
  say(
    `  belay instances create --name web-4 --zone-id home --instance-type-id tiny --source.image-id tiny --network-interfaces '[{"subnetId":"${cloud.subnet.id}"}]' --wait`,
  );
  say('  belay console web-1');
  say('  belay instances migrate web-1 --wait');
  say('  belay instances delete web-2 --wait');
}

process.exit(
  await main().catch((error: unknown) => {
    say(error instanceof Error ? error.message : String(error));
    return 1;
  }),
);
