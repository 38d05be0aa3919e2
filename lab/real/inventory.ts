/** What there really is in the lab, asked of each system itself: hosts' agents, Ceph, OVN. For comparing two looks. */
import { readFileSync } from 'node:fs';
import { connectHost, type HostConnection } from '../../host-agent/connection.ts';
import type { HostInventory, PoolInventory } from '../../host-agent/protocol.ts';
import { cephContents } from './ceph.ts';
import { attachLab } from './lab.ts';
import { labPaths } from './layout.ts';
import { type OvnEndpoints, ovnArguments } from './ovn.ts';
import { must } from './processes.ts';

export interface LabInventory {
  /** By host; null where no agent runs. */
  hosts: Record<string, Omit<HostInventory, 'tasks'> | null>;
  ceph: { users: string[]; pools: Record<string, PoolInventory | null> };
  /** Rows of the northbound database by table, without what OVN chooses or counts itself; and the chassis that registered. */
  ovn: Record<string, unknown[]>;
  chassis: string[];
}

export interface Inventory {
  /** `storageClusterId`: under which id the hosts know the Ceph cluster; without it pools are told by name only. */
  read(storageClusterId?: string): Promise<LabInventory>;
  close(): Promise<void>;
}

const tables = [
  'Logical_Switch',
  'Logical_Switch_Port',
  'Port_Group',
  'ACL',
  'DHCP_Options',
  'Address_Set',
  'Logical_Router',
  'Meter',
];
/** Chosen or counted by OVN, or a moment's state. */
const fleeting = new Set(['_uuid', '_version', 'up', 'nb_cfg', 'sb_cfg', 'hv_cfg']);

/** The lab that is up at this home. Connections to hosts are kept until `close`. */
export async function openInventory(home: string): Promise<Inventory> {
  const lab = await attachLab(home);
  const paths = labPaths(home);
  const privateKey = readFileSync(paths.privateKey, 'utf8');
  const connections = new Map<string, HostConnection>();

  async function onHost<Result>(
    { name, address, hostKey }: { name: string; address: string; hostKey: string },
    work: (connection: HostConnection) => Promise<Result>,
  ): Promise<Result | null> {
    try {
      const kept = connections.get(name);
      const connection = kept?.isOpen ? kept : await connectHost({ address, privateKey, hostKey });
      connections.set(name, connection);
      return await work(connection);
    } catch (error) {
      if ((error as { code?: string }).code === 'HOST_UNREACHABLE') return null;
      throw error;
    }
  }

  async function pool(name: string, storageClusterId: string): Promise<PoolInventory | null> {
    for (const host of lab.hosts) {
      const found = await onHost(host, (connection) =>
        connection.call('rbd.inventory', { storageClusterId, pool: name }),
      ).catch(() => null);
      // An image gets a new id each time that it is made.
      if (found)
        return {
          images: sorted(found.images),
          trash: sorted(found.trash.map((image) => ({ id: '', name: image.name }))),
        };
    }
    return null;
  }

  return {
    async read(storageClusterId) {
      const [hosts, ceph, ovn, chassis] = await Promise.all([
        Promise.all(
          lab.hosts.map(async (host) => {
            const found = await onHost(host, (connection) => connection.call('host.inventory', {}));
            if (!found) return [host.name, null] as const;
            const { domains, ports, secrets, files } = found;
            // A tap's name is libvirt's choice.
            const plugged = ports.map(({ interfaceId }) => ({ name: 'tap', interfaceId }));
            return [
              host.name,
              { domains: sorted(domains), ports: sorted(plugged), secrets: sorted(secrets), files: sorted(files) },
            ] as const;
          }),
        ),
        cephContents(paths),
        select(lab.ovn, 'nbRemote', 'OVN_Northbound', tables),
        select(lab.ovn, 'sbRemote', 'OVN_Southbound', ['Chassis']),
      ]);
      const pools = await Promise.all(
        ceph.pools
          .sort()
          .map(async (name) => [name, storageClusterId ? await pool(name, storageClusterId) : null] as const),
      );
      return {
        hosts: Object.fromEntries(hosts),
        ceph: { users: ceph.users.sort(), pools: Object.fromEntries(pools) },
        ovn,
        chassis: sorted((chassis.Chassis ?? []).map((row) => String((row as { name: unknown }).name))),
      };
    },
    async close() {
      for (const connection of connections.values()) await connection.close();
    },
  };
}

async function select(
  ovn: OvnEndpoints,
  remote: 'nbRemote' | 'sbRemote',
  database: string,
  from: string[],
): Promise<Record<string, unknown[]>> {
  const operations = from.map((table) => ({ op: 'select', table, where: [] }));
  const stdout = await must([
    ...['ovsdb-client', ...ovnArguments(ovn)],
    ...['transact', ovn[remote], JSON.stringify([database, ...operations])],
  ]);
  const results = JSON.parse(stdout) as { rows: Record<string, unknown>[] }[];
  return Object.fromEntries(from.map((table, index) => [table, sorted((results[index]?.rows ?? []).map(plainRow))]));
}

function plainRow(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row)
      .filter(([column]) => !fleeting.has(column))
      .map(([column, value]) => [column, plain(value)]),
  );
}

/** OVSDB's notation (RFC 7047, 5.1) as plain JSON; rows that are referred to are only counted, since their names are random. */
function plain(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const [kind, content] = value as [string, unknown];
  if (kind === 'uuid') return '1 rows';
  if (kind === 'map') return Object.fromEntries(content as [string, unknown][]);
  const members = (content as unknown[]).map(plain);
  return members.every((member) => member === '1 rows') ? `${members.length} rows` : sorted(members);
}

function sorted<T>(list: T[]): T[] {
  const key = (item: T): string => JSON.stringify(item);
  return [...list].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
}
