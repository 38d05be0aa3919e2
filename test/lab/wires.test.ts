/** What the control plane and the hosts reach over a network they reach over TLS, with certificates on both sides, and so does nobody else. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { connect } from 'node:tls';
import pg from 'pg';
import { beforeAll, expect, inject, test } from 'vitest';
import { openApi } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { attachLab, type Lab, type RunResult } from '../../lab/real/lab.ts';
import { labPaths } from '../../lab/real/layout.ts';
import { ovnArguments } from '../../lab/real/ovn.ts';
import { must, run } from '../../lab/real/processes.ts';
import { ensureCertificate } from '../../runtime/certificateFiles.ts';
import { postgresConnection } from '../../runtime/postgresConnection.ts';

const { home, apiUrl, token, databaseUrl, cloud } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(cloud.tenantToken);
const hostFile = (name: string): string => `/etc/belay/ovn/${name}.pem`;
const asHost = [
  `--private-key=${hostFile('key')}`,
  `--certificate=${hostFile('cert')}`,
  `--ca-cert=${hostFile('cacert')}`,
];

let lab: Lab;
beforeAll(async () => {
  lab = await attachLab(home);
});

const asking = (remote: string, options: string[]): string[] => [
  'timeout',
  '3',
  'ovsdb-client',
  '--timeout=2',
  '-vconsole:off',
  ...options,
  'list-dbs',
  remote,
];
/** Asks a database of OVN for its name, from where the control plane is: hosts do not see its files. */
const ask = (remote: string, options: string[] = []): Promise<RunResult> => run(asking(remote, options));
/** The same from inside a host, with what that has. */
const askAsHost = (remote: string): Promise<RunResult> => lab.execHost(1, asking(remote, asHost));

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client(postgresConnection(url)());
  try {
    await client.connect();
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

const onHost = async (argv: string[]): Promise<string> => {
  const { code, stdout, stderr } = await lab.execHost(1, argv);
  expect(stderr.trim(), argv.join(' ')).toBe('');
  expect(code).toBe(0);
  return stdout.trim();
};
const serialOf = async (path: string): Promise<string> => new X509Certificate(await onHost(['cat', path])).serialNumber;
const isConnected = async (): Promise<boolean> =>
  (await onHost(['ovn-appctl', '-t', 'ovn-controller', 'connection-status'])) === 'connected';

test('OVN lets in who shows a certificate: the control plane anywhere, a host to the southbound database alone', async () => {
  const { nbRemote, sbRemote } = lab.ovn;
  const control = ovnArguments(lab.ovn);
  const trusted = `--ca-cert=${lab.ovn.tls.ca}`;
  for (const remote of [nbRemote, sbRemote]) {
    expect((await ask(remote, control)).stdout).toContain('OVN_');
    expect((await ask(remote.replace('ssl:', 'tcp:'))).code, 'in clear').not.toBe(0);
    expect((await ask(remote, ['--private-key=none', '--certificate=none', trusted])).code, 'no certificate').not.toBe(
      0,
    );
  }
  expect((await askAsHost(sbRemote)).stdout).toContain('OVN_Southbound');
  expect((await askAsHost(nbRemote)).code, 'a host at the northbound database').not.toBe(0);
  const server = join(dirname(lab.ovn.tls.ca), 'ovn');
  const asServer = ovnArguments({ tls: { ...lab.ovn.tls, certificate: `${server}.pem`, key: `${server}-key.pem` } });
  expect((await ask(nbRemote, asServer)).code, "with a server's certificate").not.toBe(0);
});

test('hosts are connected to OVN over TLS, by certificates of their own', async () => {
  for (const host of lab.hosts) {
    const number = lab.hosts.indexOf(host) + 1;
    const { stdout } = await lab.execHost(number, ['ovs-vsctl', 'get', 'Open_vSwitch', '.', 'external_ids:ovn-remote']);
    expect(stdout.trim()).toBe(`"${lab.ovn.sbRemote}"`);
    const mode = await lab.execHost(number, ['stat', '-c', '%a', hostFile('key')]);
    expect(mode.stdout.trim()).toBe('600');
    const { stdout: text } = await lab.execHost(number, ['cat', hostFile('cert')]);
    expect(new X509Certificate(text).subject).toBe(`CN=${cloud.hosts[number - 1]?.id}`);
  }
  expect(await isConnected()).toBe(true);
});

test('the keys of hosts are in no history, no record and no log', async () => {
  const temporal = new URL(databaseUrl);
  temporal.pathname = '/temporal';
  const [histories] = await query<{ all: string; telling: string; named: string }>(
    temporal.href,
    `SELECT count(*) AS all, count(*) FILTER (WHERE position('PRIVATE KEY'::bytea IN data) > 0) AS telling,
       count(*) FILTER (WHERE position('hostId'::bytea IN data) > 0) AS named FROM history_node`,
  );
  // What histories hold can be read there; of hosts they hold ids.
  expect(Number(histories?.named)).toBeGreaterThan(0);
  expect(Number(histories?.telling)).toBe(0);
  for (const table of ['operation', 'event', 'auditEntry', 'host'])
    expect(
      await query(databaseUrl, `SELECT t::text FROM "${table}" t WHERE t::text LIKE '%PRIVATE KEY%'`),
      table,
    ).toEqual([]);
  const logs = await must(['sh', '-c', 'grep -rl "PRIVATE KEY" "$1" || true', 'sh', join(home, 'stack-of-lab/logs')]);
  expect(logs).toBe('');
  const ofHost = await lab.execHost(1, ['grep', '-rl', 'PRIVATE KEY', '/var/log']);
  expect(ofHost.stdout).toBe('');
});

test('PostgreSQL is reached over TLS by everything that uses it, and refuses the rest', async () => {
  const clear = new URL(databaseUrl);
  clear.searchParams.set('sslmode', 'disable');
  await expect(query(clear.href, 'SELECT 1')).rejects.toThrow('no encryption');
  const bare = new URL(databaseUrl);
  bare.searchParams.delete('sslcert');
  bare.searchParams.delete('sslkey');
  await expect(query(bare.href, 'SELECT 1')).rejects.toThrow('certificate');
  const sessions = await query<{ datname: string; ssl: boolean; client_dn: string }>(
    databaseUrl,
    `SELECT DISTINCT datname, ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend' ORDER BY datname`,
  );
  expect(sessions).toEqual(
    ['belay', 'temporal', 'temporal_visibility'].map((datname) => ({ datname, ssl: true, client_dn: '/CN=belay' })),
  );
});

/** Who is connected is cut off, and comes again. */
const cutOff = (part: string): Promise<string> =>
  must(['ovs-appctl', '-t', join(labPaths(home).sockets, `${part}.ctl`), 'ovsdb-server/reconnect']);

test('certificates of the databases and of the control plane are renewed without a stop', async () => {
  const { tls, nbRemote, sbRemote } = lab.ovn;
  const shown = (remote: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const [, host = '', port] = remote.split(':');
      const read = (path: string): Buffer => readFileSync(path);
      const { ca, certificate, key } = tls;
      const place = { host, port: Number(port), ca: read(ca), cert: read(certificate), key: read(key) };
      const socket = connect(place, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const before = await shown(nbRemote);
  await ensureCertificate(dirname(tls.ca), 'ovn', ['ovn', '10.232.0.2'], { renew: true });
  await ensureCertificate(dirname(tls.ca), 'belay', [], { renew: true });
  for (const remote of [nbRemote, sbRemote]) await expect.poll(() => shown(remote)).not.toBe(before);
  await cutOff('ovn-nb');
  await cutOff('ovn-sb');
  const network = await make(tenant, 'networks', { name: 'wired', zoneId: cloud.zone.id });
  await tenant.done('DELETE', `/v1/networks/${network.id}`);
  await expect.poll(isConnected, { timeout: 20_000 }).toBe(true);
});

test("a host's certificate is renewed by connecting it, and shown when it comes again", async () => {
  const [host] = cloud.hosts;
  const before = await serialOf(hostFile('cert'));
  await query(databaseUrl, `DELETE FROM "secret" WHERE "ownerKind" = 'host' AND "ownerId" = '${host?.id}'`);
  await admin.done('POST', `/v1/hosts/${host?.id}/actions/connect`);
  expect(await serialOf(hostFile('cert'))).not.toBe(before);
  expect((await askAsHost(lab.ovn.sbRemote)).stdout).toContain('OVN_Southbound');
  await cutOff('ovn-sb');
  await expect.poll(isConnected, { timeout: 20_000 }).toBe(true);
});
