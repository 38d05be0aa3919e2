import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { addresses, type LabPaths, namespaces, ports } from './layout.ts';
import { inside } from './network.ts';
import { endProcesses, must, partPids, run, startDaemon, waitUntil } from './processes.ts';

export interface OvnEndpoints {
  nbRemote: string;
  sbRemote: string;
}

const databases = [
  { part: 'ovn-nb', schema: '/usr/share/ovn/ovn-nb.ovsschema', port: ports.northbound },
  { part: 'ovn-sb', schema: '/usr/share/ovn/ovn-sb.ovsschema', port: ports.southbound },
] as const;

export const ovnEndpoints: OvnEndpoints = {
  nbRemote: `tcp:${addresses.control}:${ports.northbound}`,
  sbRemote: `tcp:${addresses.control}:${ports.southbound}`,
};

/** OVN's two databases and northd. They come up with what they held when they went down. */
export async function upOvn(paths: LabPaths): Promise<OvnEndpoints> {
  mkdirSync(paths.ovn, { recursive: true });
  mkdirSync(paths.sockets, { recursive: true });
  for (const { part, schema, port } of databases) {
    if (partPids(paths.root, part).length > 0) continue;
    const file = join(paths.ovn, `${part}.db`);
    if (!existsSync(file)) await must(['ovsdb-tool', 'create', file, schema]);
    start(paths, part, [
      ...['ovsdb-server', file, `--remote=punix:${socket(paths, part)}`, `--remote=ptcp:${port}:${addresses.control}`],
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
  return ovnEndpoints;
}

export async function downOvn(paths: LabPaths): Promise<void> {
  await endProcesses(['ovn-northd', 'ovn-nb', 'ovn-sb'].flatMap((part) => partPids(paths.root, part)));
}

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
