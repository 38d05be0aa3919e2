/**
 * What northd and the hosts' ovn-controllers would do to the OVN databases: chassis come and go, ports go up and down,
 * `sb_cfg` and `hv_cfg` follow `nb_cfg`, targets of balancers are online while their ports are up. And the databases' inventory, free of everything that a roll-back can not restore.
 */
import { compare, contentOf } from './ceph.ts';
import type { Faults } from './faults.ts';
import type { Host, HostWorld, NetworkControl } from './host/host.ts';
import { northbound, southbound } from './ovnSchema.ts';
import {
  atomsOf,
  createDatabase,
  type Database,
  type Json,
  type Operation,
  type Row,
  type Table,
} from './ovsdbDatabase.ts';

export interface Ovn extends NetworkControl {
  databases: Database[];
  /** Brings ports and counters up to date now; otherwise it happens right after each transaction. */
  settle(): void;
  record(): OvnRecord;
}

/** Database → table → rows; references are written as the name or content of the row they lead to, empty columns are left out. */
export type OvnRecord = Record<string, Record<string, Json[]>>;

/** They rise with every synchronisation and never fall. */
const counters = new Set(['nb_cfg', 'nb_cfg_timestamp', 'sb_cfg', 'sb_cfg_timestamp', 'hv_cfg', 'hv_cfg_timestamp']);

export function createOvn(world: () => HostWorld, faults: Faults): Ovn {
  const nb = createDatabase(northbound);
  const sb = createDatabase(southbound);
  nb.transact([{ op: 'insert', table: 'NB_Global', row: {} }]);
  sb.transact([{ op: 'insert', table: 'SB_Global', row: {} }]);
  const ports = tableOf(nb, 'Logical_Switch_Port');
  const portsByName = ports.lookups.find(({ columns }) => columns.length === 1 && columns[0] === 'name');
  const global = tableOf(nb, 'NB_Global');
  const balancers = tableOf(nb, 'Load_Balancer');
  const chassis = tableOf(sb, 'Chassis');
  const monitors = tableOf(sb, 'Service_Monitor');
  const chassisHosts = new Map<string, Host>();
  const stalePorts = new Set<string>();
  let scheduled = false;
  let monitorsStale = false;

  nb.onCommit((changes) => {
    for (const { table, before, after } of changes) {
      if (table === ports && after) {
        const untouched =
          before?.values.options === after.values.options &&
          before?.values.type === after.values.type &&
          before?.values.enabled === after.values.enabled &&
          before?.values.up === after.values.up;
        if (!untouched) stalePorts.add(String(after.values.name));
      }
      if (table === balancers || (table === ports && monitors.rows.size > 0)) monitorsStale = true;
      if (table === global || stalePorts.size > 0 || monitorsStale) schedule();
    }
  });
  sb.onCommit((changes) => {
    for (const { table, before, after } of changes) {
      if (table !== chassis || !before || after) continue;
      const name = String(before.values.name);
      // A living ovn-controller registers again when its row is taken away.
      setImmediate(() => {
        const host = chassisHosts.get(name);
        if (host && !chassis.lookups[0]?.rows.has(name)) register(host);
      });
    }
  });

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      const fault = faults.strike('ovn', ['ovn.northd'], 'before');
      if (!fault) return settle();
      fault.then(settle, () => {
        scheduled = false;
      });
    });
  }

  function settle(): void {
    scheduled = false;
    const operations: Operation[] = [];
    for (const name of stalePorts) {
      for (const uuid of portsByName?.rows.get(name) ?? []) {
        const row = ports.rows.get(uuid);
        const up = row && isUp(row);
        if (!row || up === undefined) continue;
        const known = [...atomsOf(row.values.up)][0];
        if (known !== up)
          operations.push({ op: 'update', table: ports.name, where: [['_uuid', '==', ['uuid', uuid]]], row: { up } });
      }
    }
    stalePorts.clear();
    for (const { values } of global.rows.values()) {
      if (values.hv_cfg === values.nb_cfg) continue;
      const at = Date.now();
      const sequence = Number(values.nb_cfg);
      const row = {
        sb_cfg: sequence,
        hv_cfg: sequence,
        nb_cfg_timestamp: at,
        sb_cfg_timestamp: at,
        hv_cfg_timestamp: at,
      };
      operations.push({ op: 'update', table: global.name, where: [], row });
    }
    if (operations.length > 0) nb.transact(operations);
    if (monitorsStale) settleMonitors();
  }

  /** One for each target that is asked; who answers is not played: a port that is up does. */
  function settleMonitors(): void {
    monitorsStale = false;
    const wanted = new Map<string, { [column: string]: Json }>();
    for (const { values } of balancers.rows.values()) {
      const { vips, ip_port_mappings: mappings, health_check: checks, protocol } = values;
      if (!(vips instanceof Map) || !(mappings instanceof Map) || atomsOf(checks).size === 0) continue;
      for (const target of [...vips.values()].flatMap((targets) => String(targets).split(',')).filter(Boolean)) {
        const [ip = '', port = ''] = target.split(':');
        const [logical_port = '', src_ip = ''] = String(mappings.get(ip) ?? '').split(':');
        if (!logical_port) continue;
        const isOnline = [...(portsByName?.rows.get(logical_port) ?? [])].some((uuid) =>
          atomsOf(ports.rows.get(uuid)?.values.up).has(true),
        );
        const proto = String([...atomsOf(protocol)][0] ?? 'tcp');
        wanted.set([logical_port, ip, port, proto].join(' '), {
          ip,
          port: Number(port),
          protocol: proto,
          logical_port,
          src_ip,
          status: isOnline ? 'online' : 'offline',
        });
      }
    }
    const operations: Operation[] = [];
    for (const { uuid, values } of monitors.rows.values()) {
      const protocol = [...atomsOf(values.protocol)][0];
      const key = [values.logical_port, values.ip, values.port, protocol].map(String).join(' ');
      const where = [['_uuid', '==', ['uuid', uuid]]];
      const row = wanted.get(key);
      operations.push(
        row
          ? { op: 'update', table: monitors.name, where, row: { status: row.status ?? '' } }
          : { op: 'delete', table: monitors.name, where },
      );
      wanted.delete(key);
    }
    for (const row of wanted.values()) operations.push({ op: 'insert', table: monitors.name, row });
    if (operations.length > 0) sb.transact(operations);
  }

  /** Undefined for port types that northd leaves alone. */
  function isUp(row: Row): boolean | undefined {
    const { type, options, enabled } = row.values;
    if (type === 'router') return true;
    if (type !== '' && type !== 'virtual') return undefined;
    if (atomsOf(enabled).has(false)) return false;
    const requested = options instanceof Map ? options.get('requested-chassis') : undefined;
    const wanted = typeof requested === 'string' && requested !== '' ? requested.split(',') : undefined;
    for (const host of world().interfaces.get(String(row.values.name)) ?? []) {
      if (!host.switch) continue;
      if (!wanted || wanted.includes(host.switch.systemId) || wanted.includes(host.name)) return true;
    }
    return false;
  }

  function register(host: Host): void {
    if (!host.switch || host.connection !== 'up') return;
    const { systemId, encapsulation, encapAddress, integrationBridge } = host.switch;
    sb.transact([
      { op: 'delete', table: 'Chassis', where: [['name', '==', systemId]] },
      {
        op: 'insert',
        table: 'Encap',
        'uuid-name': 'encap',
        row: { type: encapsulation, ip: encapAddress, chassis_name: systemId, options: ['map', [['csum', 'true']]] },
      },
      {
        op: 'insert',
        table: 'Chassis',
        row: {
          name: systemId,
          hostname: host.name,
          encaps: ['named-uuid', 'encap'],
          other_config: ['map', [['ovn-bridge', integrationBridge]]],
        },
      },
    ]);
  }

  function touchPortsOf(host: Host): void {
    for (const { live } of host.domains.values()) for (const { id } of live?.interfaces ?? []) touch(id);
  }

  function touch(interfaceId: string): void {
    if (!portsByName?.rows.has(interfaceId)) return;
    stalePorts.add(interfaceId);
    schedule();
  }

  return {
    databases: [nb, sb],
    settle,
    chassisJoined(host) {
      if (!host.switch) return;
      chassisHosts.set(host.switch.systemId, host);
      register(host);
      touchPortsOf(host);
    },
    chassisLeft(systemId) {
      const host = chassisHosts.get(systemId);
      chassisHosts.delete(systemId);
      sb.transact([{ op: 'delete', table: 'Chassis', where: [['name', '==', systemId]] }]);
      if (host) touchPortsOf(host);
    },
    chassisRenamed: (systemId) => void chassisHosts.delete(systemId),
    chassisHost: (systemId) => chassisHosts.get(systemId),
    interfaceChanged: touch,
    record: () => Object.fromEntries([nb, sb].map((database) => [database.schema.name, recordOf(database)])),
  };
}

function tableOf(database: Database, name: string): Table {
  const table = database.tables.get(name);
  if (!table) throw new Error(`The schema of ${database.schema.name} lacks table ${name}`);
  return table;
}

function recordOf(database: Database): Record<string, Json[]> {
  const rows = new Map<string, { table: Table; row: Row }>();
  for (const table of database.tables.values())
    for (const row of table.rows.values()) rows.set(row.uuid, { table, row });
  const labels = new Map<string, string>();

  const label = (uuid: string): string => {
    const known = labels.get(uuid);
    if (known !== undefined) return known;
    const found = rows.get(uuid);
    const { name } = found?.row.values ?? {};
    const made = found
      ? typeof name === 'string' && name !== ''
        ? name
        : contentOf(JSON.stringify(record(found)))
      : '?';
    labels.set(uuid, made);
    return made;
  };

  const record = ({ table, row }: { table: Table; row: Row }): { [column: string]: Json } => {
    const json: { [column: string]: Json } = {};
    for (const [column, { key }] of Object.entries(table.schema.columns)) {
      const value = row.values[column];
      if (value === undefined || value === '' || counters.has(column)) continue;
      const write = (atom: Json) => (key.type === 'uuid' ? label(String(atom)) : atom);
      if (value instanceof Map) {
        if (value.size > 0)
          json[column] = Object.fromEntries([...value].sort(([a], [b]) => compare(String(a), String(b))));
      } else if (value instanceof Set) {
        if (value.size > 0) json[column] = [...value].map(write).sort((a, b) => compare(String(a), String(b)));
      } else json[column] = write(value);
    }
    return json;
  };

  return Object.fromEntries(
    [...database.tables.values()]
      .filter((table) => table.rows.size > 0)
      .map((table) => [
        table.name,
        [...table.rows.values()]
          .map((row) => record({ table, row }))
          .map((json) => ({ json, text: JSON.stringify(json) }))
          .sort((a, b) => compare(a.text, b.text))
          .map(({ json }) => json),
      ])
      .sort(([a], [b]) => compare(String(a), String(b))),
  );
}
