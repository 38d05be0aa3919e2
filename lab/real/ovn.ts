import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CertificateFiles, ensureCertificate } from '../../runtime/certificateFiles.ts';
import { addresses, type LabPaths, namespaces, ports } from './layout.ts';
import { inside } from './network.ts';
import { endProcesses, must, partPids, run, startDaemon, waitUntil } from './processes.ts';

export interface OvnEndpoints {
  nbRemote: string;
  sbRemote: string;
  /** What the control plane shows, and whom it trusts. */
  tls: CertificateFiles;
  /** Lets hosts with certificates of this authority in to the southbound database, too. */
  trustHosts(authority: string): void;
}

const databases = [
  { part: 'ovn-nb', schema: '/usr/share/ovn/ovn-nb.ovsschema', port: ports.northbound, hosts: false },
  { part: 'ovn-sb', schema: '/usr/share/ovn/ovn-sb.ovsschema', port: ports.southbound, hosts: true },
] as const;

const pki = (paths: LabPaths): string => join(paths.ovn, 'pki');
/** Whom the southbound database lets in: the control plane, and hosts. */
const southboundClients = (paths: LabPaths): string => join(pki(paths), 'southbound-clients.pem');

export function ovnEndpoints(paths: LabPaths): OvnEndpoints {
  const file = (name: string): string => join(pki(paths), name);
  return {
    nbRemote: `ssl:${addresses.control}:${ports.northbound}`,
    sbRemote: `ssl:${addresses.control}:${ports.southbound}`,
    tls: { ca: file('authority.pem'), certificate: file('belay.pem'), key: file('belay-key.pem') },
    trustHosts(authority) {
      const clients = southboundClients(paths);
      const known = readFileSync(clients, 'utf8');
      if (known.includes(authority)) return;
      writeFileSync(`${clients}.part`, `${known}${authority}`);
      renameSync(`${clients}.part`, clients);
    },
  };
}

/** For OVN's own commands, as the control plane. */
export const ovnArguments = ({ tls }: Pick<OvnEndpoints, 'tls'>): string[] => [
  `--private-key=${tls.key}`,
  `--certificate=${tls.certificate}`,
  `--ca-cert=${tls.ca}`,
];

/** Certificates of the databases and of the control plane, all of an authority of the lab's own. */
async function ensureCertificates(paths: LabPaths): Promise<CertificateFiles> {
  const server = await ensureCertificate(pki(paths), 'ovn', ['ovn', addresses.control]);
  await ensureCertificate(pki(paths), 'belay', []);
  const clients = southboundClients(paths);
  if (!existsSync(clients)) writeFileSync(clients, readFileSync(server.ca));
  return server;
}

/** OVN's two databases and northd. They come up with what they held when they went down. */
export async function upOvn(paths: LabPaths): Promise<OvnEndpoints> {
  mkdirSync(paths.ovn, { recursive: true });
  mkdirSync(paths.sockets, { recursive: true });
  const server = await ensureCertificates(paths);
  for (const { part, schema, port, hosts } of databases) {
    if (partPids(paths.root, part).length > 0) continue;
    const file = join(paths.ovn, `${part}.db`);
    if (!existsSync(file)) await must(['ovsdb-tool', 'create', file, schema]);
    start(paths, part, [
      ...['ovsdb-server', file, `--remote=punix:${socket(paths, part)}`, `--remote=pssl:${port}:${addresses.control}`],
      ...[`--private-key=${server.key}`, `--certificate=${server.certificate}`],
      `--ca-cert=${hosts ? southboundClients(paths) : server.ca}`,
    ]);
  }
  for (const { part } of databases) {
    const client = part === 'ovn-nb' ? 'ovn-nbctl' : 'ovn-sbctl';
    const ask = [client, `--db=unix:${socket(paths, part)}`, '--timeout=5', 'init'];
    await waitUntil(`the database ${part}`, async () => (await run(ask)).code === 0, 15_000);
  }
  if (partPids(paths.root, 'ovn-northd').length === 0) {
    const [nb, sb] = databases.map(({ part }) => `unix:${socket(paths, part)}`);
    start(paths, 'ovn-northd', ['ovn-northd', `--ovnnb-db=${nb}`, `--ovnsb-db=${sb}`]);
  }
  await must(['ovn-nbctl', `--db=unix:${socket(paths, 'ovn-nb')}`, '--timeout=15', '--wait=sb', 'sync']);
  return ovnEndpoints(paths);
}

export async function downOvn(paths: LabPaths): Promise<void> {
  await endProcesses(['ovn-northd', 'ovn-nb', 'ovn-sb'].flatMap((part) => partPids(paths.root, part)));
}

/** Where `ovn-nbctl` on the machine reaches it. */
export const northboundSocket = (paths: LabPaths): string => socket(paths, 'ovn-nb');
/** The same for `ovn-trace`. */
export const southboundSocket = (paths: LabPaths): string => socket(paths, 'ovn-sb');

function socket(paths: LabPaths, part: string): string {
  return join(paths.sockets, `${part}.sock`);
}

function start(paths: LabPaths, part: string, argv: readonly string[]): void {
  const control = `--unixctl=${join(paths.sockets, `${part}.ctl`)}`;
  // Its own pid file would be refused after a kill -9 of a process whose number is in use again; the mark in the environment is enough.
  startDaemon(paths.root, part, [...inside(namespaces.control), ...argv, control], join(paths.ovn, `${part}.log`), {
    OVN_RUNDIR: paths.sockets,
    OVS_RUNDIR: paths.sockets,
  });
}
