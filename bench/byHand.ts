/**
 * The same guest on the same real host, once through the API and once by the commands that an engineer's script would run there, one
 * after the other: rbd, ovn-nbctl, virsh.
 */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { OperationView, Resource } from '../lab/api.ts';
import { instanceBody } from '../lab/provision.ts';
import type { Lab } from '../lab/real/lab.ts';
import { ovnArguments } from '../lab/real/ovn.ts';
import type { BenchCloud } from './cloud.ts';

const bootLimitMs = 120_000;

interface Interface extends Resource {
  mac: string;
  address: string;
  networkId: string;
}

/** A guest of the product, and all that a second one like it is made from. */
export interface Model {
  instance: Resource & { hostId: string; rootVolumeId: string };
  nic: Interface;
  /** Number of its host in the lab, from 1. */
  host: number;
  /** Its definition in libvirt. */
  xml: string;
  seed: Buffer;
  dhcpOptions: string;
}

export interface RawGuest {
  id: string;
  volumeId: string;
  portId: string;
  host: number;
}

const hex = (id: string): string => id.replaceAll('-', '');

/** The commands inside the lab's hosts. Each throws with what it said when it fails. */
export function commandsIn(lab: Lab) {
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
    sh: (host: number, script: string) => run(host, ['sh', '-c', script]),
    virsh: (host: number, argv: string[]) => run(host, ['virsh', '-q', '-c', 'qemu:///system', ...argv]),
    ceph: (host: number, argv: string[]) => run(host, ['ceph', ...ceph, ...argv]),
    rbd: (host: number, argv: string[], input?: Buffer) => run(host, ['rbd', ...ceph, ...argv], input),
    nbctl: (host: number, argv: string[]) =>
      run(host, ['ovn-nbctl', ...ovnArguments(lab.ovn), `--db=${lab.ovn.nbRemote}`, '--timeout=30', ...argv]),
  };
}

export const domainName = (id: string): string => `instance-${id}`;

export async function asked(
  bench: BenchCloud,
  path: string,
  body: unknown,
): Promise<{ operation: OperationView; ms: number }> {
  const admin = bench.admin;
  const started = performance.now();
  const answer = await admin.call<OperationView>('POST', path, body, { Prefer: 'wait=60' });
  const operation = answer.endedAt ? answer : await admin.settled(answer.id);
  const ms = performance.now() - started;
  if (operation.state !== 'succeeded')
    throw new Error(`${operation.type} is ${operation.state}: ${operation.error?.message}`);
  return { operation, ms };
}

export const deploy = (bench: BenchCloud, name: string, requestedHostId?: string) =>
  asked(
    bench,
    '/v1/instances',
    instanceBody(bench.cloud, name, {
      projectId: bench.cloud.project.id,
      ...(requestedHostId ? { requestedHostId } : {}),
    }),
  );

export async function remove(bench: BenchCloud, instanceId: string): Promise<void> {
  await bench.admin.done('DELETE', `/v1/instances/${instanceId}`);
  await bench.admin.done('POST', `/v1/instances/${instanceId}/actions/expunge`, {});
}

export const hostNumber = (bench: BenchCloud, hostId: string): number =>
  bench.cloud.hosts.findIndex(({ id }) => id === hostId) + 1;

export async function modelOf(bench: BenchCloud, lab: Lab, requestedHostId?: string): Promise<Model> {
  const { operation } = await deploy(bench, 'model', requestedHostId);
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
export async function rawDeploy(
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
    // Belay leaves alone what has none of its tags.
    .replace(/<metadata>[\s\S]*?<\/metadata>/, '')
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

export async function rawRemove(bench: BenchCloud, lab: Lab, guest: RawGuest): Promise<void> {
  const { virsh, rbd, nbctl } = commandsIn(lab);
  const { host } = guest;
  await virsh(host, ['destroy', domainName(guest.id)]);
  await virsh(host, ['undefine', domainName(guest.id)]);
  for (const image of [`volume-${guest.volumeId}`, `seed-${guest.id}`])
    await rbd(host, ['rm', '--no-progress', `${poolOf(bench)}/${image}`]);
  await nbctl(host, ['lsp-del', guest.portId]);
}

/** Waits until a guest like the model has booted so many times, on whichever of these hosts; answers when that was seen. */
export async function booted(
  lab: Lab,
  { xml, instance }: Model,
  id: string,
  hosts: readonly number[],
  times = 1,
): Promise<number> {
  const path = /<log file=['"]([^'"]+)['"]/.exec(xml)?.[1]?.replaceAll(instance.id, id);
  if (!path) throw new Error('the guest keeps no serial log');
  const files = hosts.map((host) => lab.hostFile(host, path));
  const ready = new RegExp(`READY .* boots=${times} `);
  for (const until = Date.now() + bootLimitMs; Date.now() < until; await delay(50))
    if (files.some((file) => existsSync(file) && ready.test(readFileSync(file, 'latin1')))) return Date.now();
  throw new Error(`no ${ready} in ${path} of the hosts ${hosts.join(', ')} within ${bootLimitMs / 1000} s`);
}

export interface Moved {
  totalMs: number;
  downtimeMs: number;
}

/** What a script does to move a guest: both chassis for its port, the migration, the new chassis alone. */
export async function rawMigrate(bench: BenchCloud, lab: Lab, guest: RawGuest, target: number): Promise<Moved> {
  const { virsh, nbctl } = commandsIn(lab);
  const source = guest.host;
  const [from, to] = [bench.cloud.hosts[source - 1]?.id ?? '', bench.cloud.hosts[target - 1]?.id ?? ''];
  const address = lab.hosts[target - 1]?.address ?? '';
  const name = domainName(guest.id);
  // Several may move at a time.
  const definition = (file: string): string => `/tmp/bench-${guest.id}-${file}.xml`;
  const started = performance.now();
  await nbctl(source, [
    ...['set', 'Logical_Switch_Port', guest.portId, `options:requested-chassis="${from},${to}"`],
    'options:activation-strategy=rarp',
  ]);
  // Each host has a Ceph user of its own, so the definition differs by the host's name.
  let isTranslated = false;
  for (const [file, flags] of [
    ['running', ['--migratable']],
    ['kept', ['--inactive', '--migratable']],
  ] as const) {
    const xml = (await virsh(source, ['dumpxml', ...flags, name])).replaceAll(from, to);
    isTranslated ||= xml.startsWith("<domain type='qemu'");
    await lab.execHost(source, ['tee', definition(file)], { input: xml });
  }
  await virsh(source, [
    ...[
      'migrate',
      // As the agent does: one without KVM holds still while it moves.
      ...(isTranslated ? [] : ['--live', '--auto-converge']),
      '--p2p',
      '--tls',
      '--persistent',
      '--undefinesource',
      '--abort-on-error',
    ],
    ...['--xml', definition('running'), '--persistent-xml', definition('kept'), '--migrateuri', `tcp://${address}`],
    ...[name, `qemu+tls://${address}/system?pkipath=/etc/belay/pki`],
  ]);
  await nbctl(source, [
    ...['remove', 'Logical_Switch_Port', guest.portId, 'options', 'activation-strategy'],
    ...['--', 'set', 'Logical_Switch_Port', guest.portId, `options:requested-chassis=${to}`],
  ]);
  const totalMs = performance.now() - started;
  await lab.execHost(source, ['rm', definition('running'), definition('kept')]);
  guest.host = target;
  const job = await virsh(target, ['domjobinfo', '--completed', name]);
  return { totalMs, downtimeMs: Number(/Total downtime:\s+(\d+)/.exec(job)?.[1] ?? Number.NaN) };
}

export async function migrate(bench: BenchCloud, instanceId: string, target: number): Promise<Moved> {
  const hostId = bench.cloud.hosts[target - 1]?.id;
  const { operation, ms } = await asked(bench, `/v1/instances/${instanceId}/actions/migrate`, { hostId });
  return { totalMs: ms, downtimeMs: (operation.result as { downtimeMs: number }).downtimeMs };
}
