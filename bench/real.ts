/**
 * The same guest on the same real host, once through the API and once by the commands that an engineer's script would run there, one
 * after the other: rbd, ovn-nbctl, virsh. Both take turns.
 */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { OperationView, Resource } from '../lab/api.ts';
import { instanceBody } from '../lab/provision.ts';
import type { Lab } from '../lab/real/lab.ts';
import { ovnArguments } from '../lab/real/ovn.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, median } from './figures.ts';

const deployRounds = 5;
const migrationRounds = 4;
const bootLimitMs = 120_000;

interface Interface extends Resource {
  mac: string;
  address: string;
  networkId: string;
}

/** A guest of the product, and all that a second one like it is made from. */
interface Model {
  instance: Resource & { hostId: string; rootVolumeId: string };
  nic: Interface;
  /** Number of its host in the lab, from 1. */
  host: number;
  /** Its definition in libvirt. */
  xml: string;
  seed: Buffer;
  dhcpOptions: string;
}

interface RawGuest {
  id: string;
  volumeId: string;
  portId: string;
  host: number;
}

const hex = (id: string): string => id.replaceAll('-', '');

/** The commands inside the lab's hosts. Each throws with what it said when it fails. */
function commandsIn(lab: Lab) {
  const { monitors, adminUser, adminKey } = lab.ceph;
  const run = async (host: number, argv: string[], input?: Buffer): Promise<string> => {
    const options = { timeoutMs: 120_000, ...(input ? { input } : {}) };
    const { code, stdout, stderr } = await lab.execHost(host, argv, options);
    if (code !== 0) throw new Error(`${argv[0]} on host${host} failed with ${code}: ${stderr.trim().slice(-300)}`);
    return stdout;
  };
  const ceph = [
    '-c',
    '/dev/null',
    '-m',
    monitors.join(','),
    '--id',
    adminUser.replace(/^client\./, ''),
    '--key',
    adminKey,
  ];
  return {
    virsh: (host: number, argv: string[]) => run(host, ['virsh', '-q', '-c', 'qemu:///system', ...argv]),
    rbd: (host: number, argv: string[], input?: Buffer) => run(host, ['rbd', ...ceph, ...argv], input),
    nbctl: (host: number, argv: string[]) =>
      run(host, ['ovn-nbctl', ...ovnArguments(lab.ovn), `--db=${lab.ovn.nbRemote}`, '--timeout=30', ...argv]),
  };
}

const domainName = (id: string): string => `instance-${id}`;

async function asked(
  bench: BenchCloud,
  path: string,
  body: unknown,
): Promise<{ operation: OperationView; ms: number }> {
  const admin = bench.admin;
  const started = performance.now();
  const operation = await admin.call<OperationView>('POST', path, body, { Prefer: 'wait=60' });
  const ms = performance.now() - started;
  if (operation.state !== 'succeeded')
    throw new Error(`${operation.type} is ${operation.state}: ${operation.error?.message}`);
  return { operation, ms };
}

const deploy = (bench: BenchCloud, name: string) =>
  asked(bench, '/v1/instances', { ...instanceBody(bench.cloud, name), projectId: bench.cloud.project.id });

async function remove(bench: BenchCloud, instanceId: string): Promise<void> {
  await bench.admin.done('DELETE', `/v1/instances/${instanceId}`);
  await bench.admin.done('POST', `/v1/instances/${instanceId}/actions/expunge`, {});
}

const hostNumber = (bench: BenchCloud, hostId: string): number =>
  bench.cloud.hosts.findIndex(({ id }) => id === hostId) + 1;

async function modelOf(bench: BenchCloud, lab: Lab): Promise<Model> {
  const { operation } = await deploy(bench, 'model');
  const instance = await bench.admin.call<Model['instance']>('GET', `/v1/instances/${operation.targetId}`);
  const { items } = await bench.admin.call<{ items: Interface[] }>(
    'GET',
    `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${instance.id}"`)}`,
  );
  const [nic] = items;
  if (!nic) throw new Error('the model guest has no interface');
  const host = hostNumber(bench, instance.hostId);
  const { virsh, rbd, nbctl } = commandsIn(lab);
  const seedFile = `/tmp/bench-seed-${instance.id}`;
  await rbd(host, ['export', '--no-progress', `${poolOf(bench)}/seed-${instance.id}`, seedFile]);
  const seed = Buffer.from((await lab.execHost(host, ['base64', seedFile])).stdout, 'base64');
  await lab.execHost(host, ['rm', '-f', seedFile]);
  return {
    instance,
    nic,
    host,
    xml: await virsh(host, ['dumpxml', '--inactive', domainName(instance.id)]),
    seed,
    dhcpOptions: (await nbctl(host, ['--bare', 'get', 'Logical_Switch_Port', nic.id, 'dhcpv4_options'])).replace(
      /[[\]\s]/g,
      '',
    ),
  };
}

const poolOf = (bench: BenchCloud): string => bench.cloud.pools[0]?.name ?? '';

/** What a script does for one guest, and how long it takes. */
async function rawDeploy(
  bench: BenchCloud,
  lab: Lab,
  model: Model,
  n: number,
): Promise<{ guest: RawGuest; ms: number }> {
  const { virsh, rbd, nbctl } = commandsIn(lab);
  const { host, nic } = model;
  const guest: RawGuest = { id: crypto.randomUUID(), volumeId: crypto.randomUUID(), portId: crypto.randomUUID(), host };
  const mac = `02:00:00:00:c8:${n.toString(16).padStart(2, '0')}`;
  const address = `"${mac} 10.77.200.${n + 1}"`;
  const xml = model.xml
    .replaceAll(model.instance.id, guest.id)
    .replaceAll(model.instance.rootVolumeId, guest.volumeId)
    .replaceAll(nic.id, guest.portId)
    .replaceAll(nic.mac, mac);
  const pool = poolOf(bench);
  const definition = '/tmp/bench-definition.xml';
  await lab.execHost(host, ['tee', definition], { input: xml });
  const started = performance.now();
  const parent = `${pool}/image-${bench.cloud.image.id}@base`;
  await rbd(host, ['clone', '--rbd-default-clone-format', '2', parent, `${pool}/volume-${guest.volumeId}`]);
  await rbd(host, ['import', '--no-progress', '-', `${pool}/seed-${guest.id}`], model.seed);
  await nbctl(host, [
    ...['--id=@port', 'create', 'Logical_Switch_Port', `name=${guest.portId}`, `addresses=${address}`],
    ...[`port_security=${address}`, `dhcpv4_options=${model.dhcpOptions}`],
    `options:requested-chassis=${model.instance.hostId}`,
    ...['--', 'add', 'Logical_Switch', `network-${nic.networkId}`, 'ports', '@port'],
    ...['--', 'add', 'Port_Group', `net_${hex(nic.networkId)}`, 'ports', '@port'],
    ...['--', 'add', 'Port_Group', `sg_${hex(bench.cloud.securityGroup.id)}`, 'ports', '@port'],
  ]);
  await virsh(host, ['define', definition]);
  await virsh(host, ['start', domainName(guest.id)]);
  await nbctl(host, ['wait-until', 'Logical_Switch_Port', guest.portId, 'up=true']);
  return { guest, ms: performance.now() - started };
}

async function rawRemove(bench: BenchCloud, lab: Lab, guest: RawGuest): Promise<void> {
  const { virsh, rbd, nbctl } = commandsIn(lab);
  const { host } = guest;
  await virsh(host, ['destroy', domainName(guest.id)]);
  await virsh(host, ['undefine', domainName(guest.id)]);
  for (const image of [`volume-${guest.volumeId}`, `seed-${guest.id}`])
    await rbd(host, ['rm', '--no-progress', `${poolOf(bench)}/${image}`]);
  await nbctl(host, ['lsp-del', guest.portId]);
}

/** One deploy by turns; the median of each side. */
export async function deployLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const model = await modelOf(bench, lab);
  const ours: number[] = [];
  const raw: number[] = [];
  // The first of each only fills caches.
  for (let n = 0; n <= deployRounds; n++) {
    const { operation, ms } = await deploy(bench, `lab-${n}`);
    await remove(bench, operation.targetId);
    const made = await rawDeploy(bench, lab, model, n);
    await rawRemove(bench, lab, made.guest);
    if (n === 0) continue;
    ours.push(ms);
    raw.push(made.ms);
  }
  await remove(bench, model.instance.id);
  return [
    compared(
      'deploy.lab',
      median(ours),
      median(raw),
      'ms',
      { atMost: 1.3 },
      `p50 of ${deployRounds} deploys on real hosts, from the request to the answer that it runs; against: rbd clone, rbd import, ovn-nbctl, virsh define, virsh start, ovn-nbctl wait-until on the host`,
    ),
  ];
}

async function booted(lab: Lab, host: number, xml: string): Promise<void> {
  const path = /<log file=['"]([^'"]+)['"]/.exec(xml)?.[1];
  if (!path) throw new Error('the guest keeps no serial log');
  const file = lab.hostFile(host, path);
  for (const until = Date.now() + bootLimitMs; Date.now() < until; await delay(200))
    if (existsSync(file) && readFileSync(file, 'latin1').includes('READY')) return;
  throw new Error(`no READY in ${path} of host${host} within ${bootLimitMs / 1000} s`);
}

interface Moved {
  totalMs: number;
  downtimeMs: number;
}

/** What a script does to move a guest: both chassis for its port, the migration, the new chassis alone. */
async function rawMigrate(bench: BenchCloud, lab: Lab, guest: RawGuest, target: number): Promise<Moved> {
  const { virsh, nbctl } = commandsIn(lab);
  const source = guest.host;
  const [from, to] = [bench.cloud.hosts[source - 1]?.id ?? '', bench.cloud.hosts[target - 1]?.id ?? ''];
  const address = lab.hosts[target - 1]?.address ?? '';
  const name = domainName(guest.id);
  const started = performance.now();
  await nbctl(source, [
    ...['set', 'Logical_Switch_Port', guest.portId, `options:requested-chassis="${from},${to}"`],
    'options:activation-strategy=rarp',
  ]);
  // Each host has a Ceph user of its own, so the definition differs by the host's name.
  for (const [file, flags] of [
    ['running', ['--migratable']],
    ['kept', ['--inactive', '--migratable']],
  ] as const) {
    const xml = (await virsh(source, ['dumpxml', ...flags, name])).replaceAll(from, to);
    await lab.execHost(source, ['tee', `/tmp/bench-${file}.xml`], { input: xml });
  }
  await virsh(source, [
    ...[
      'migrate',
      '--live',
      '--p2p',
      '--tls',
      '--persistent',
      '--undefinesource',
      '--abort-on-error',
      '--auto-converge',
    ],
    ...[
      '--xml',
      '/tmp/bench-running.xml',
      '--persistent-xml',
      '/tmp/bench-kept.xml',
      '--migrateuri',
      `tcp://${address}`,
    ],
    ...[name, `qemu+tls://${address}/system?pkipath=/etc/belay/pki`],
  ]);
  await nbctl(source, [
    ...['remove', 'Logical_Switch_Port', guest.portId, 'options', 'activation-strategy'],
    ...['--', 'set', 'Logical_Switch_Port', guest.portId, `options:requested-chassis=${to}`],
  ]);
  const totalMs = performance.now() - started;
  guest.host = target;
  const job = await virsh(target, ['domjobinfo', '--completed', name]);
  return { totalMs, downtimeMs: Number(/Total downtime:\s+(\d+)/.exec(job)?.[1] ?? Number.NaN) };
}

async function migrate(bench: BenchCloud, instanceId: string, target: number): Promise<Moved> {
  const hostId = bench.cloud.hosts[target - 1]?.id;
  const { operation, ms } = await asked(bench, `/v1/instances/${instanceId}/actions/migrate`, { hostId });
  return { totalMs: ms, downtimeMs: (operation.result as { downtimeMs: number }).downtimeMs };
}

/** Two like guests go back and forth between the same two hosts by turns. */
export async function migrateLab(bench: BenchCloud, lab: Lab): Promise<Figure[]> {
  const model = await modelOf(bench, lab);
  const home = model.host;
  const away = home === 1 ? 2 : 1;
  const { guest } = await rawDeploy(bench, lab, model, 100);
  await booted(lab, home, model.xml);
  await booted(lab, home, model.xml.replaceAll(model.instance.id, guest.id));
  const ours: Moved[] = [];
  const raw: Moved[] = [];
  for (let n = 0; n < migrationRounds; n++) {
    const target = n % 2 === 0 ? away : home;
    ours.push(await migrate(bench, model.instance.id, target));
    raw.push(await rawMigrate(bench, lab, guest, target));
  }
  await rawRemove(bench, lab, guest);
  await remove(bench, model.instance.id);
  const of = (moves: Moved[], what: keyof Moved): number => median(moves.map((moved) => moved[what]));
  const note = `p50 of ${migrationRounds} live migrations of an idle guest; against: virsh migrate --live --p2p --tls with ovn-nbctl before and after`;
  return [
    compared('migrate.lab.downtime', of(ours, 'downtimeMs'), of(raw, 'downtimeMs'), 'ms', { atMost: 1.2 }, note),
    compared('migrate.lab.total', of(ours, 'totalMs'), of(raw, 'totalMs'), 'ms', { atMost: 1.5 }, note),
  ];
}
