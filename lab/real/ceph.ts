import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { addresses, deviceClasses, imageBucket, type LabPaths, namespaces, ports } from './layout.ts';
import { inside } from './network.ts';
import { endProcesses, isAlive, must, partPids, run, startDaemon, waitUntil } from './processes.ts';

export interface CephAccess {
  /** `address:port` of each monitor, in the older protocol's port, which every client speaks. */
  monitors: string[];
  fsid: string;
  adminUser: 'admin';
  adminKey: string;
  deviceClasses: readonly string[];
  /** The object store's user and bucket for images. */
  s3: S3Access & { bucket: string };
  /** An object store user that may manage users, buckets and quotas (RGW's admin API). */
  rgwAdmin: S3Access;
}

export interface S3Access {
  endpoint: string;
  accessKey: string;
  secretKey: string;
}

interface CephFiles {
  conf: string;
  keys: string;
  data: string;
  logs: string;
  secrets: string;
  monIsMade: string;
  mapsAreMade: string;
  storeIsMade: string;
}

/** Everything that is chosen once, at the first start. */
interface CephSecrets {
  fsid: string;
  keys: Record<string, string>;
  osdUuids: string[];
  imagesUser: { accessKey: string; secretKey: string };
  adminUser: { accessKey: string; secretKey: string };
}

const osdSizeBytes = 8 * 2 ** 30; // of a sparse file
const osdIds = deviceClasses.map((_, id) => id);
const rgwEndpoint = `http://${addresses.ceph}:${ports.rgw}`;

const capabilities: Record<string, Record<string, string>> = {
  'mon.': { mon: 'allow *' },
  'client.admin': { mon: 'allow *', osd: 'allow *', mds: 'allow *', mgr: 'allow *' },
  'mgr.a': { mon: 'allow profile mgr', osd: 'allow *', mds: 'allow *' },
  'client.rgw.a': { mon: 'allow rw', osd: 'allow rwx', mgr: 'allow rw' },
  ...Object.fromEntries(
    osdIds.map((id) => [`osd.${id}`, { mon: 'allow profile osd', mgr: 'allow profile osd', osd: 'allow *' }]),
  ),
};

/** tcmalloc keeps small thread caches and gives memory back early: 40 MB less per daemon. */
const daemonEnvironment = { TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES: '8388608', TCMALLOC_RELEASE_RATE: '10' };

/**
 * The smallest real Ceph: one monitor, one manager, one OSD per device class, one object gateway.
 *
 * Makes no pool of its own beyond those the gateway needs; pools and CRUSH rules are Belay's to make. Every key is chosen here and given
 * to the monitor's first start, so no `auth add` is needed later. Returns when all daemons of this run are in the maps, all placement
 * groups are clean, every pool takes a write and the gateway answers.
 */
export async function upCeph(paths: LabPaths): Promise<CephAccess> {
  const files = cephFiles(paths);
  for (const directory of [files.keys, files.data, files.logs, paths.sockets])
    mkdirSync(directory, { recursive: true });
  const secrets = chooseSecrets(files);
  writeFileSync(files.conf, configuration(paths, files, secrets.fsid));
  writeKeyrings(files, secrets);

  if (!existsSync(files.monIsMade)) await makeMonitor(files, secrets);
  start(paths, 'mon.a', ['ceph-mon', '-i', 'a']);
  mkdirSync(join(files.data, 'mgr.a'), { recursive: true });
  start(paths, 'mgr.a', ['ceph-mgr', '-i', 'a']); // early: it is the slowest to become active
  const monitor = connectMonitor(files);
  try {
    const maps = existsSync(files.mapsAreMade) ? undefined : makeMaps(monitor, files, secrets);
    await Promise.all([maps, ...osdIds.map((id) => makeObjectStore(files, secrets, id))]);
    for (const id of osdIds) start(paths, `osd.${id}`, ['ceph-osd', '-i', String(id)]);
    await untilInMaps(monitor, paths);
    mkdirSync(join(files.data, 'rgw.a'), { recursive: true });
    start(paths, 'rgw.a', ['radosgw', '-n', 'client.rgw.a']);
    await waitUntil('the object gateway', () => answers(rgwEndpoint), 60_000);
    if (!existsSync(files.storeIsMade)) await makeObjectUsers(files, secrets);
    await untilHealthy(monitor);
  } finally {
    monitor.close();
  }
  return access(secrets);
}

/** What a client needs to know of a cluster that is up. */
export function cephAccess(paths: LabPaths): CephAccess {
  return access(JSON.parse(readFileSync(cephFiles(paths).secrets, 'utf8')) as CephSecrets);
}

/** Stops all daemons. The manager and the gateway keep nothing and take seconds to end by themselves, so they are killed. */
export async function downCeph(paths: LabPaths): Promise<void> {
  const pids = (...parts: string[]) => parts.flatMap((part) => partPids(paths.root, part));
  await endProcesses(pids('rgw.a', 'mgr.a'), 'SIGKILL');
  await endProcesses(pids(...osdIds.map((id) => `osd.${id}`)));
  await endProcesses(pids('mon.a'));
}

function access({ fsid, keys, imagesUser, adminUser }: CephSecrets): CephAccess {
  return {
    monitors: [`${addresses.ceph}:${ports.monitorV1}`],
    fsid,
    adminUser: 'admin',
    adminKey: keys['client.admin'] ?? '',
    deviceClasses,
    s3: { endpoint: rgwEndpoint, ...imagesUser, bucket: imageBucket },
    rgwAdmin: { endpoint: rgwEndpoint, ...adminUser },
  };
}

function cephFiles(paths: LabPaths): CephFiles {
  const file = (name: string) => join(paths.ceph, name);
  return {
    conf: file('ceph.conf'),
    keys: file('keys'),
    data: file('data'),
    logs: file('log'),
    secrets: file('secrets.json'),
    monIsMade: file('mon-is-made'),
    mapsAreMade: file('maps-are-made'),
    storeIsMade: file('object-store-is-made'),
  };
}

function chooseSecrets(files: CephFiles): CephSecrets {
  if (existsSync(files.secrets)) return JSON.parse(readFileSync(files.secrets, 'utf8')) as CephSecrets;
  const userKey = () => ({
    accessKey: randomBytes(10).toString('hex').toUpperCase(),
    secretKey: randomBytes(30).toString('base64url'),
  });
  const secrets: CephSecrets = {
    fsid: randomUUID(),
    keys: Object.fromEntries(Object.keys(capabilities).map((user) => [user, cephxKey()])),
    osdUuids: osdIds.map(() => randomUUID()),
    imagesUser: userKey(),
    adminUser: userKey(),
  };
  writeFileSync(files.secrets, JSON.stringify(secrets, null, 2), { mode: 0o600 });
  return secrets;
}

/** A cephx secret: type 1 (AES-128), creation time, length, 16 random bytes (CryptoKey::encode in Ceph's auth/Crypto.cc). */
function cephxKey(): string {
  const header = Buffer.alloc(12);
  header.writeUInt16LE(1, 0);
  header.writeUInt32LE(Math.floor(Date.now() / 1000), 2);
  header.writeUInt16LE(16, 10);
  return Buffer.concat([header, randomBytes(16)]).toString('base64');
}

function keyring(user: string, key: string): string {
  const caps = Object.entries(capabilities[user] ?? {}).map(([service, cap]) => `\tcaps ${service} = "${cap}"\n`);
  return `[${user}]\n\tkey = ${key}\n${caps.join('')}`;
}

function writeKeyrings(files: CephFiles, { keys }: CephSecrets): void {
  for (const [user, key] of Object.entries(keys)) {
    const name = user === 'mon.' ? 'mon.a' : user;
    writeFileSync(join(files.keys, `${name}.keyring`), keyring(user, key), { mode: 0o600 });
  }
}

async function makeMonitor(files: CephFiles, { fsid, keys }: CephSecrets): Promise<void> {
  const monmap = join(files.data, 'monmap');
  const seed = join(files.keys, 'seed.keyring');
  rmSync(join(files.data, 'mon.a'), { recursive: true, force: true });
  writeFileSync(
    seed,
    Object.entries(keys)
      .map(([user, key]) => keyring(user, key))
      .join(''),
    { mode: 0o600 },
  );
  const address = `[v2:${addresses.ceph}:${ports.monitorV2},v1:${addresses.ceph}:${ports.monitorV1}]`;
  await must([
    ...[
      'monmaptool',
      '--create',
      '--clobber',
      '--fsid',
      fsid,
      '--addv',
      'a',
      address,
      '--set-min-mon-release',
      '16',
      monmap,
    ],
  ]);
  await must(['ceph-mon', '-c', files.conf, '-i', 'a', '--mkfs', '--monmap', monmap, '--keyring', seed]);
  writeFileSync(files.monIsMade, '');
}

async function makeObjectStore(files: CephFiles, { osdUuids, keys }: CephSecrets, id: number): Promise<void> {
  const directory = join(files.data, `osd.${id}`);
  const made = join(directory, 'lab-is-made');
  if (existsSync(made)) return;
  rmSync(directory, { recursive: true, force: true }); // half made by a run that was killed
  mkdirSync(directory, { recursive: true });
  const keyringFile = join(directory, 'keyring');
  writeFileSync(keyringFile, keyring(`osd.${id}`, keys[`osd.${id}`] ?? ''), { mode: 0o600 });
  await must([
    ...['ceph-osd', '-c', files.conf, '-i', String(id), '--mkfs', '--osd-uuid', osdUuids[id] ?? ''],
    ...['--keyring', keyringFile, '--no-mon-config'],
  ]);
  writeFileSync(made, '');
}

/** Ids, places and device classes of the OSDs. Every command bears to run twice. */
async function makeMaps(monitor: Monitor, files: CephFiles, { osdUuids }: CephSecrets): Promise<void> {
  // Before the first OSD is up, else the module makes a pool of its own.
  await monitor.command({
    prefix: 'config set',
    who: 'mgr',
    name: 'mgr/devicehealth/enable_monitoring',
    value: 'false',
    force: true,
  });
  for (const [id, deviceClass] of deviceClasses.entries()) {
    await monitor.command({ prefix: 'osd new', uuid: osdUuids[id], id });
    await monitor.command({ prefix: 'osd crush add', id, weight: 1, args: ['root=default', 'host=lab'] });
    await monitor.command({ prefix: 'osd crush set-device-class', class: deviceClass, ids: [`osd.${id}`] });
  }
  writeFileSync(files.mapsAreMade, '');
}

async function makeObjectUsers(files: CephFiles, { imagesUser, adminUser }: CephSecrets): Promise<void> {
  const users = [
    { uid: 'belay-images', keys: imagesUser, caps: [] },
    { uid: 'belay-admin', keys: adminUser, caps: ['--caps', 'users=*;buckets=*;usage=*;metadata=*;zone=read'] },
  ];
  for (const { uid, keys, caps } of users) {
    const admin = ['radosgw-admin', '-c', files.conf];
    if ((await run([...admin, 'user', 'info', '--uid', uid])).code === 0) continue;
    await must([
      ...[...admin, 'user', 'create', '--uid', uid, '--display-name', uid, ...caps],
      ...['--access-key', keys.accessKey, '--secret-key', keys.secretKey],
    ]);
  }
  // Loaded here only: it takes longer to load than a lab that is already up takes to be found up.
  const { CreateBucketCommand, HeadBucketCommand } = await import('@aws-sdk/client-s3');
  const { objectStoreClient } = await import('../../runtime/objectStore.ts');
  const client = objectStoreClient({ endpoint: rgwEndpoint, region: 'default', ...imagesUser });
  try {
    const Bucket = imageBucket;
    const exists = await client.send(new HeadBucketCommand({ Bucket })).then(
      () => true,
      () => false,
    );
    if (!exists) await client.send(new CreateBucketCommand({ Bucket }));
  } finally {
    client.destroy();
  }
  writeFileSync(files.storeIsMade, '');
}

function start(paths: LabPaths, part: string, argv: readonly string[]): void {
  if (partPids(paths.root, part).length > 0) return;
  const files = cephFiles(paths);
  // In the foreground: a manager that detaches itself closes its stderr, and modules that write to it die.
  const command = [...inside(namespaces.ceph), ...argv, '-f', '-c', files.conf];
  startDaemon(paths.root, part, command, join(files.logs, `${part}.out`), daemonEnvironment);
}

/**
 * Right after a restart the monitor still reports what it knew before. So first wait until the maps hold the messenger nonces, which
 * are process ids, of the daemons that run now.
 */
async function untilInMaps(monitor: Monitor, paths: LabPaths): Promise<void> {
  const nonce = (address: string) => Number(address.split('/')[1]);
  await waitUntil(
    'the OSDs and the manager to be in the maps',
    async () => {
      const parts = ['mgr.a', ...osdIds.map((id) => `osd.${id}`)];
      const running = parts.flatMap((part) => partPids(paths.root, part));
      if (running.length < parts.length) throw new Error(`lab: a Ceph daemon has ended; see ${cephFiles(paths).logs}`);
      const { osds } = await monitor.command<{ osds: { up: number; public_addr: string }[] }>({ prefix: 'osd dump' });
      const manager = await monitor.command<{ available: boolean; active_addr: string }>({ prefix: 'mgr dump' });
      const present = new Set(osds.filter(({ up }) => up === 1).map((osd) => nonce(osd.public_addr)));
      if (manager.available) present.add(nonce(manager.active_addr));
      return running.every((pid) => present.has(pid) || !isAlive(pid));
    },
    120_000,
    50,
  );
}

async function untilHealthy(monitor: Monitor): Promise<void> {
  interface Status {
    health: { status: string };
    pgmap: { num_pgs: number; pgs_by_state?: { state_name: string; count: number }[] };
  }
  await waitUntil(
    'Ceph to be healthy',
    async () => {
      const { health, pgmap } = await monitor.command<Status>({ prefix: 'status' });
      const clean = (pgmap.pgs_by_state ?? []).filter(({ state_name }) => state_name.startsWith('active+clean'));
      return health.status === 'HEALTH_OK' && clean.reduce((sum, { count }) => sum + count, 0) === pgmap.num_pgs;
    },
    120_000,
    50,
  );
  const { pools } = await monitor.command<{ pools: { pool_name: string }[] }>({ prefix: 'osd dump' });
  for (const { pool_name } of pools) await monitor.command({ prefix: 'probe pool', pool: pool_name });
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2000) })).status < 500;
  } catch {
    return false;
  }
}

/** The users and pools that Ceph has, beyond those of its own daemons. */
export async function cephContents(paths: LabPaths): Promise<{ users: string[]; pools: string[] }> {
  const files = cephFiles(paths);
  const monitor = connectMonitor(files);
  try {
    const { auth_dump: users } = await monitor.command<{ auth_dump: { entity: string }[] }>({ prefix: 'auth ls' });
    const pools = await monitor.command<{ poolname: string }[]>({ prefix: 'osd lspools' });
    return {
      users: users
        .map(({ entity }) => entity)
        .filter((name) => !(name in capabilities) && !name.startsWith('client.bootstrap-')),
      pools: pools
        .map(({ poolname }) => poolname)
        .filter((name) => !name.startsWith('.') && !name.startsWith('default.')),
    };
  } finally {
    monitor.close();
  }
}

/** Whom the cluster has shut out, and since when (seconds since 1970): one entry for each map in which that changed, the oldest first. */
export async function blocklistHistory(paths: LabPaths): Promise<{ at: number; entries: string[] }[]> {
  interface OsdMap {
    epoch: number;
    modified: string;
    blocklist: Record<string, string>;
  }
  const monitor = connectMonitor(cephFiles(paths));
  try {
    const maps = [await monitor.command<OsdMap>({ prefix: 'osd dump' })];
    for (let epoch = (maps[0]?.epoch ?? 1) - 1; epoch > 0; epoch--) {
      // Monitors forget the oldest maps.
      const map = await monitor.command<OsdMap>({ prefix: 'osd dump', epoch }).catch(() => undefined);
      if (!map) break;
      maps.unshift(map);
    }
    return maps
      .map(({ modified, blocklist }) => ({ at: Date.parse(modified) / 1000, entries: Object.keys(blocklist).sort() }))
      .filter(({ entries }, index, all) => entries.join() !== (all[index - 1]?.entries.join() ?? ''));
  } finally {
    monitor.close();
  }
}

interface Monitor {
  /** Runs one monitor command; throws when it is refused. */
  command<Answer>(command: Record<string, unknown> & { prefix: string }): Promise<Answer>;
  close(): void;
}

function connectMonitor(files: CephFiles): Monitor {
  const script = join(import.meta.dirname, 'mon-commands.py');
  const child = spawn('/usr/bin/python3', [script, files.conf], { stdio: ['pipe', 'pipe', 'pipe'] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const stderr: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk.toString()));
  child.stdin.on('error', () => {}); // it ended: the missing answer says so
  return {
    async command<Answer>(command: { prefix: string }) {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      const line = await answers.next();
      if (line.done)
        throw new Error(`lab: no connection to the Ceph monitor: ${stderr.join('').trim().split('\n').at(-1)}`);
      const { rc, out, err } = JSON.parse(line.value) as { rc: number; out: Answer; err: string };
      if (rc !== 0) throw new Error(`lab: Ceph refused "${command.prefix}" with ${rc}: ${err}`);
      return out;
    },
    close: () => child.stdin.end(),
  };
}

function configuration(paths: LabPaths, files: CephFiles, fsid: string): string {
  const { ceph: address } = addresses;
  return `[global]
fsid = ${fsid}
mon_host = [v2:${address}:${ports.monitorV2},v1:${address}:${ports.monitorV1}]
mon_initial_members = a
public_addr = ${address}
cluster_addr = ${address}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = ${paths.sockets}
log_file = ${files.logs}/$name.log
admin_socket = ${paths.sockets}/$name.asok
pid_file =
crash_dir = ${files.data}/crash
keyring = ${files.keys}/$name.keyring
log_to_syslog = false
log_to_stderr = false
err_to_stderr = true
max_open_files = 0
# one copy of everything: there is one OSD per device class
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_delete = true
ms_async_op_threads = 1
ms_async_max_op_threads = 2
log_max_recent = 500
debug_rocksdb = 0/0
debug_bluestore = 0/0
debug_bluefs = 0/0
debug_bdev = 0/0
debug_ms = 0/0
# every change of a map waits this long; the default of one second makes the first start ten times longer
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
rbd_default_features = 61
[client]
log_file = /dev/null
admin_socket =
[mon]
mon_data = ${files.data}/mon.$id
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_warn_on_pool_no_app = false
auth_allow_insecure_global_id_reclaim = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_memory_target = 536870912
mon_osd_cache_size = 10
mon_tick_interval = 1
mon_pg_warn_min_per_osd = 0
mon_max_pg_per_osd = 1000
mon_cluster_log_file = ${files.logs}/cluster.log
mon_osd_initial_require_min_compat_client = octopus
mon_cpu_threads = 1
mgr_initial_modules =
[mgr]
mgr_data = ${files.data}/mgr.$id
# never list an always-on module here, such as telemetry: the cluster would be in error
mgr_disabled_modules = alerts diskprediction_local influx insights iostat k8sevents localpool mirroring nfs osd_perf_query osd_support restful rook selftest snap_schedule stats telegraf test_orchestrator zabbix dashboard prometheus cephadm
mgr_stats_period = 1
mgr_tick_period = 1
mgr_connect_retry_interval = 0.2
[osd]
osd_data = ${files.data}/osd.$id
osd_objectstore = bluestore
osd_memory_target = 939524096
osd_memory_cache_min = 33554432
bluestore_cache_autotune = false
bluestore_cache_size = 33554432
bluestore_block_size = ${osdSizeBytes}
bluestore_block_create = true
bluestore_fsck_quick_fix_on_mount = false
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
osd_min_pg_log_entries = 50
osd_max_pg_log_entries = 100
osd_map_cache_size = 50
osd_mon_report_interval = 1
osd_heartbeat_interval = 3
osd_heartbeat_grace = 12
osd_scrub_auto_repair = false
osd_scrub_load_threshold = 0.01
[client.rgw.a]
rgw_data = ${files.data}/rgw.a
log_file = ${files.logs}/rgw.a.log
admin_socket = ${paths.sockets}/rgw.a.asok
rgw_frontends = beast endpoint=${address}:${ports.rgw}
rgw_thread_pool_size = 16
rgw_enable_usage_log = true
rgw_enable_ops_log = false
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_bucket_quota_ttl = 1
rgw_user_quota_bucket_sync_interval = 1
rgw_user_quota_sync_interval = 1
`;
}
