import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Problem } from '../problem.ts';
import type { Calls, HostInventory } from '../protocol.ts';
import { replaceFile, restoreFile } from './configFile.ts';
import { hasKernelDatapath } from './facts.ts';
import { type OperationResult, type Ovsdb, readMap, writeMap } from './ovsdb.ts';
import { filesBelow, PATHS, readIfExists, writeFileAtomically } from './paths.ts';
import { restartService } from './serviceManager.ts';

/** Debian's ovs-ctl takes the system id from here at every start. */
const SYSTEM_ID_FILE = '/etc/openvswitch/system-id.conf';
/** Where ovn-controller finds its certificate. It looks at these files again before each of its rounds. */
const PKI = join(PATHS.configuration, 'ovn');
const TLS_FILES = {
  caCertificate: { path: join(PKI, 'cacert.pem'), mode: 0o644 },
  privateKey: { path: join(PKI, 'key.pem'), mode: 0o600 },
  certificate: { path: join(PKI, 'cert.pem'), mode: 0o644 },
} as const;
const BEFORE_FILE = join(PATHS.state, 'switch-before.json');
const DEFAULT_BRIDGE = 'br-int';
const BRIDGE_TIMEOUT_MS = 15_000;

/** What was there before Belay came. */
interface Before {
  externalIds: Record<string, string>;
  hadBridge: boolean;
  ssl?: SslRow | null;
}

/** Whose certificate Open vSwitch and ovn-controller show. */
interface SslRow {
  private_key: string;
  certificate: string;
  ca_cert: string;
}

const ownSsl: SslRow = {
  private_key: TLS_FILES.privateKey.path,
  certificate: TLS_FILES.certificate.path,
  ca_cert: TLS_FILES.caCertificate.path,
};

const OWN_KEYS = [
  'system-id',
  'ovn-remote',
  'ovn-encap-type',
  'ovn-encap-ip',
  'ovn-bridge',
  'ovn-bridge-datapath-type',
  'ovn-monitor-all',
  'ovn-remote-probe-interval',
];

async function select(db: Ovsdb, table: string, columns: string[], where: unknown[] = []) {
  const [result] = await db.transact([{ op: 'select', table, where, columns }]);
  return (result as OperationResult).rows ?? [];
}

async function externalIds(db: Ovsdb): Promise<Record<string, string>> {
  const [row] = await select(db, 'Open_vSwitch', ['external_ids']);
  return readMap(row?.external_ids);
}

async function hasBridge(db: Ovsdb, name: string): Promise<boolean> {
  return (await select(db, 'Bridge', ['name'], [['name', '==', name]])).length > 0;
}

function setExternalIds(remove: string[], insert: Record<string, string>) {
  return {
    op: 'mutate',
    table: 'Open_vSwitch',
    where: [],
    mutations: [
      ['external_ids', 'delete', ['set', remove]],
      ['external_ids', 'insert', writeMap(insert)],
    ],
  };
}

async function sslRow(db: Ovsdb): Promise<SslRow | null> {
  const [row] = await select(db, 'SSL', ['private_key', 'certificate', 'ca_cert']);
  return row ? (row as unknown as SslRow) : null;
}

/** The row before goes when nothing refers to it any more. */
function setSsl(row: SslRow | null) {
  const refer = (ssl: unknown) => ({ op: 'update', table: 'Open_vSwitch', where: [], row: { ssl } });
  if (!row) return [refer(['set', []])];
  return [{ op: 'insert', table: 'SSL', 'uuid-name': 'ssl', row }, refer(['named-uuid', 'ssl'])];
}

/** The files that belong to Belay alone, for the inventory. */
export const placedCertificates = (): Promise<string[]> => filesBelow(PKI);

/** Connects this host's switch to OVN and waits until ovn-controller has made the integration bridge. */
export async function ensureConfigured(db: Ovsdb, input: Calls['switch.ensureConfigured']['input']): Promise<void> {
  const wanted: Record<string, string> = {
    'system-id': input.systemId,
    'ovn-remote': input.ovnRemote,
    'ovn-encap-type': input.encapsulation,
    'ovn-encap-ip': input.encapAddress,
    'ovn-bridge': input.integrationBridge,
    'ovn-bridge-datapath-type': (await hasKernelDatapath()) ? 'system' : 'netdev',
    // Only what concerns this host's ports: the whole southbound database does not fit many hosts.
    'ovn-monitor-all': 'false',
    'ovn-remote-probe-interval': '60000',
  };
  const found = await externalIds(db);
  if ((await readIfExists(BEFORE_FILE)) === undefined) {
    const before: Before = {
      externalIds: Object.fromEntries(Object.entries(found).filter(([key]) => OWN_KEYS.includes(key))),
      hadBridge: await hasBridge(db, input.integrationBridge),
      ssl: await sslRow(db),
    };
    await writeFileAtomically(BEFORE_FILE, JSON.stringify(before), 0o600);
  }
  if (input.tls) {
    // The key before its certificate: once the second is there both are read again.
    for (const [name, { path, mode }] of Object.entries(TLS_FILES)) {
      const content = input.tls[name as keyof typeof TLS_FILES];
      if ((await readIfExists(path)) !== content) await writeFileAtomically(path, content, mode);
    }
  }
  const changed = Object.entries(wanted).filter(([key, value]) => found[key] !== value);
  const isShown = input.tls !== null && isDeepStrictEqual(await sslRow(db), ownSsl);
  const operations = [
    ...(input.tls && !isShown ? setSsl(ownSsl) : []),
    ...(changed.length > 0
      ? [
          setExternalIds(
            changed.map(([key]) => key),
            Object.fromEntries(changed),
          ),
        ]
      : []),
  ];
  if (operations.length > 0) await db.transact(operations);
  if (!input.tls) await hideCertificate(db);
  const isRenamed = (await readIfExists(SYSTEM_ID_FILE))?.trim() !== input.systemId;
  // ovn-controller registers under the name that it had at its start: renamed while it runs, its commits fail for ever.
  if (isRenamed) await restartService('ovn-controller');
  // Written last, so that a call that was cut short restarts it again.
  await replaceFile(SYSTEM_ID_FILE, `${input.systemId}\n`, 0o644);
  const deadline = Date.now() + BRIDGE_TIMEOUT_MS;
  while (!(await hasBridge(db, input.integrationBridge))) {
    if (Date.now() > deadline) {
      throw new Problem(
        'BACKEND_UNAVAILABLE',
        `ovn-controller did not make ${input.integrationBridge} within ${BRIDGE_TIMEOUT_MS / 1000} s; does it run on this host?`,
        true,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Shows again what was shown before Belay came, and removes its own files. */
async function hideCertificate(db: Ovsdb): Promise<void> {
  if (isDeepStrictEqual(await sslRow(db), ownSsl)) {
    const before = JSON.parse((await readIfExists(BEFORE_FILE)) ?? '{}') as Partial<Before>;
    await db.transact(setSsl(before.ssl ?? null));
  }
  await rm(PKI, { recursive: true, force: true });
}

/** Takes back what `ensureConfigured` set; removes the integration bridge when it was not there before. */
export async function ensureUnconfigured(db: Ovsdb): Promise<void> {
  const text = await readIfExists(BEFORE_FILE);
  if (text === undefined) return;
  await changeMappings(db, (mappings) => mappings.filter(([network]) => !OWN_WIRE.test(network)));
  const before = JSON.parse(text) as Before;
  const bridge = await integrationBridge(db);
  const operations: { op: string; [member: string]: unknown }[] = [setExternalIds(OWN_KEYS, before.externalIds)];
  if (!before.hadBridge) {
    const [row] = await select(db, 'Bridge', ['_uuid'], [['name', '==', bridge]]);
    // A bridge without a reference is removed with its ports.
    if (row)
      operations.push({
        op: 'mutate',
        table: 'Open_vSwitch',
        where: [],
        mutations: [['bridges', 'delete', row._uuid]],
      });
  }
  await db.transact(operations);
  await hideCertificate(db);
  await restoreFile(SYSTEM_ID_FILE, 0o644);
  await rm(BEFORE_FILE, { force: true });
}

/** Those of the bridges that are there. */
export async function bridges(db: Ovsdb, names: string[]): Promise<{ bridges: string[] }> {
  const rows = await select(db, 'Bridge', ['name']);
  return { bridges: rows.map(({ name }) => String(name)).filter((name) => names.includes(name)) };
}

const MAPPINGS = 'ovn-bridge-mappings';
const OWN_WIRE = /^physical-[0-9a-f-]{36}$/;
const wireOf = (physicalNetworkId: string): string => `physical-${physicalNetworkId}`;

/** As ovn-controller(8) has them: `network:bridge`, with commas between. */
const mappingsIn = (text: string | undefined): [string, string][] =>
  (text ?? '').split(',').flatMap((entry): [string, string][] => {
    const [network, bridge] = entry.trim().split(':');
    return network && bridge ? [[network, bridge]] : [];
  });

/** Changes the mappings, and leaves those that others have made as they are. */
async function changeMappings(db: Ovsdb, change: (mappings: [string, string][]) => [string, string][]): Promise<void> {
  const before = (await externalIds(db))[MAPPINGS];
  const mappings = change(mappingsIn(before));
  const after = mappings.map(([network, bridge]) => `${network}:${bridge}`).join(',');
  if (after === (before ?? '')) return;
  await db.transact([setExternalIds([MAPPINGS], after === '' ? {} : { [MAPPINGS]: after })]);
}

/** From the next round of ovn-controller on, what is on the wire goes through the bridge. */
export async function ensureMapping(
  db: Ovsdb,
  { physicalNetworkId, bridge }: Calls['switch.ensureMapping']['input'],
): Promise<void> {
  if (!(await hasBridge(db, bridge)))
    throw new Problem('PRECONDITION_FAILED', `this host has no bridge ${bridge}: make it first`);
  const wire = wireOf(physicalNetworkId);
  await changeMappings(db, (mappings) => [...mappings.filter(([network]) => network !== wire), [wire, bridge]]);
}

export const ensureMappingAbsent = (
  db: Ovsdb,
  { physicalNetworkId }: Calls['switch.ensureMappingAbsent']['input'],
): Promise<void> =>
  changeMappings(db, (mappings) => mappings.filter(([network]) => network !== wireOf(physicalNetworkId)));

/** The wires that this host is led to, for the inventory. */
export async function mappings(db: Ovsdb): Promise<NonNullable<HostInventory['mappings']>> {
  return mappingsIn((await externalIds(db))[MAPPINGS]).flatMap(([network, bridge]) =>
    OWN_WIRE.test(network) ? [{ physicalNetworkId: network.slice('physical-'.length), bridge }] : [],
  );
}

export async function integrationBridge(db: Ovsdb): Promise<string> {
  return (await externalIds(db))['ovn-bridge'] ?? DEFAULT_BRIDGE;
}

/** The bridge that guests are plugged into, and whether the userspace datapath carries its packets. */
export async function bridgeTraits(db: Ovsdb): Promise<{ name: string; userspaceDatapath: boolean }> {
  const name = await integrationBridge(db);
  const [row] = await select(db, 'Bridge', ['datapath_type'], [['name', '==', name]]);
  if (!row) {
    throw new Problem(
      'PRECONDITION_FAILED',
      `this host has no bridge ${name}: its switch is not connected to OVN (yet)`,
      true,
    );
  }
  return { name, userspaceDatapath: row.datapath_type === 'netdev' };
}

export async function ports(db: Ovsdb): Promise<HostInventory['ports']> {
  const rows = await select(db, 'Interface', ['name', 'external_ids']);
  return rows
    .map((row) => ({ name: String(row.name), interfaceId: readMap(row.external_ids)['iface-id'] ?? '' }))
    .filter((port) => port.interfaceId !== '');
}

/** Ports of a guest that died with its host, or whose QEMU was killed while libvirtd was away. */
export async function removePortsOf(db: Ovsdb, domainId: string): Promise<void> {
  const rows = await select(
    db,
    'Interface',
    ['_uuid'],
    [['external_ids', 'includes', writeMap({ 'vm-id': domainId })]],
  );
  if (rows.length === 0) return;
  const allPorts = await select(db, 'Port', ['_uuid', 'interfaces']);
  const dead = allPorts.filter((port) =>
    rows.some((row) => JSON.stringify(port.interfaces).includes(String((row._uuid as string[])[1]))),
  );
  await db.transact([
    {
      op: 'mutate',
      table: 'Bridge',
      where: [],
      mutations: [['ports', 'delete', ['set', dead.map((port) => port._uuid)]]],
    },
  ]);
}
