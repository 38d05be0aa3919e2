/**
 * The OVN databases' schemas (RFC 7047 section 3.2) as of OVN 23.03. The northbound one is whole but for columns that only a
 * TLS set-up uses; of the southbound one there is what tells which chassis exist, and how targets of balancers are.
 */

export type AtomType = 'string' | 'integer' | 'real' | 'boolean' | 'uuid';

export interface BaseType {
  type: AtomType;
  refTable?: string;
  refType?: 'strong' | 'weak';
  enum?: string[];
  minInteger?: number;
  maxInteger?: number;
  maxLength?: number;
}

export interface ColumnType {
  key: BaseType;
  value?: BaseType;
  min: number;
  max: number;
}

export interface TableSchema {
  columns: Record<string, ColumnType>;
  /** A row of a table that is not root lives only while another row refers to it. */
  isRoot: boolean;
  maxRows: number;
  indexes: string[][];
}

export interface DatabaseSchema {
  name: string;
  version: string;
  tables: Record<string, TableSchema>;
}

const unlimited = Number.POSITIVE_INFINITY;

const one = (key: BaseType): ColumnType => ({ key, min: 1, max: 1 });
const optional = (key: BaseType): ColumnType => ({ key, min: 0, max: 1 });
const setOf = (key: BaseType, min = 0): ColumnType => ({ key, min, max: unlimited });
const mapOf = (key: BaseType, value: BaseType): ColumnType => ({ key, value, min: 0, max: unlimited });

const text: BaseType = { type: 'string' };
const number: BaseType = { type: 'integer' };
const yesNo: BaseType = { type: 'boolean' };
const integer = (minInteger: number, maxInteger: number): BaseType => ({ type: 'integer', minInteger, maxInteger });
const word = (...words: string[]): BaseType => ({ type: 'string', enum: words });
const strong = (refTable: string): BaseType => ({ type: 'uuid', refTable, refType: 'strong' });
const weak = (refTable: string): BaseType => ({ type: 'uuid', refTable, refType: 'weak' });
const smap = mapOf(text, text);
const external_ids = smap;

const root = (columns: Record<string, ColumnType>, indexes: string[][] = [], maxRows = unlimited): TableSchema => ({
  columns,
  isRoot: true,
  indexes,
  maxRows,
});
const item = (columns: Record<string, ColumnType>, indexes: string[][] = []): TableSchema => ({
  columns,
  isRoot: false,
  indexes,
  maxRows: unlimited,
});

export const northbound: DatabaseSchema = {
  name: 'OVN_Northbound',
  version: '7.0.0',
  tables: {
    NB_Global: root(
      {
        name: one(text),
        nb_cfg: one(number),
        nb_cfg_timestamp: one(number),
        sb_cfg: one(number),
        sb_cfg_timestamp: one(number),
        hv_cfg: one(number),
        hv_cfg_timestamp: one(number),
        external_ids,
        connections: setOf(strong('Connection')),
        options: smap,
        ipsec: one(yesNo),
      },
      [],
      1,
    ),
    Connection: item(
      {
        target: one(text),
        max_backoff: optional(integer(1000, 2 ** 31 - 1)),
        inactivity_probe: optional(number),
        other_config: smap,
        external_ids,
        is_connected: one(yesNo),
        status: smap,
      },
      [['target']],
    ),
    Copp: root({ name: one(text), meters: smap, external_ids }, [['name']]),
    Logical_Switch: root({
      name: one(text),
      ports: setOf(strong('Logical_Switch_Port')),
      acls: setOf(strong('ACL')),
      qos_rules: setOf(strong('QoS')),
      load_balancer: setOf(weak('Load_Balancer')),
      load_balancer_group: setOf(strong('Load_Balancer_Group')),
      dns_records: setOf(weak('DNS')),
      copp: optional(weak('Copp')),
      forwarding_groups: setOf(strong('Forwarding_Group')),
      other_config: smap,
      external_ids,
    }),
    Logical_Switch_Port: item(
      {
        name: one(text),
        type: one(text),
        options: smap,
        parent_name: optional(text),
        tag_request: optional(integer(0, 4095)),
        tag: optional(integer(1, 4095)),
        addresses: setOf(text),
        dynamic_addresses: optional(text),
        port_security: setOf(text),
        up: optional(yesNo),
        enabled: optional(yesNo),
        dhcpv4_options: optional(weak('DHCP_Options')),
        dhcpv6_options: optional(weak('DHCP_Options')),
        mirror_rules: setOf(weak('Mirror')),
        ha_chassis_group: optional(strong('HA_Chassis_Group')),
        external_ids,
      },
      [['name']],
    ),
    Forwarding_Group: item({
      name: one(text),
      vip: one(text),
      vmac: one(text),
      liveness: one(yesNo),
      child_port: setOf(text, 1),
      external_ids,
    }),
    Address_Set: root({ name: one(text), addresses: setOf(text), external_ids }, [['name']]),
    Port_Group: root(
      { name: one(text), ports: setOf(weak('Logical_Switch_Port')), acls: setOf(strong('ACL')), external_ids },
      [['name']],
    ),
    Load_Balancer: root({
      name: one(text),
      vips: smap,
      protocol: optional(word('tcp', 'udp', 'sctp')),
      health_check: setOf(strong('Load_Balancer_Health_Check')),
      ip_port_mappings: smap,
      selection_fields: setOf(
        word('eth_src', 'eth_dst', 'ip_src', 'ip_dst', 'ipv6_src', 'ipv6_dst', 'tp_src', 'tp_dst'),
      ),
      options: smap,
      external_ids,
    }),
    Load_Balancer_Group: root({ name: one(text), load_balancer: setOf(weak('Load_Balancer')) }, [['name']]),
    Load_Balancer_Health_Check: item({ vip: one(text), options: smap, external_ids }),
    ACL: item({
      name: optional({ type: 'string', maxLength: 63 }),
      priority: one(integer(0, 32767)),
      direction: one(word('from-lport', 'to-lport')),
      match: one(text),
      action: one(word('allow', 'allow-related', 'allow-stateless', 'drop', 'reject')),
      log: one(yesNo),
      severity: optional(word('alert', 'warning', 'notice', 'info', 'debug')),
      meter: optional(text),
      label: one(integer(0, 4294967295)),
      options: smap,
      external_ids,
    }),
    QoS: item({
      priority: one(integer(0, 32767)),
      direction: one(word('from-lport', 'to-lport')),
      match: one(text),
      action: mapOf(word('dscp'), integer(0, 63)),
      bandwidth: mapOf(word('rate', 'burst'), integer(1, 4294967295)),
      external_ids,
    }),
    Mirror: root(
      {
        name: one(text),
        filter: one(word('from-lport', 'to-lport')),
        sink: one(text),
        type: one(word('gre', 'erspan')),
        index: one(number),
        external_ids,
      },
      [['name']],
    ),
    Meter: root(
      {
        name: one(text),
        unit: one(word('kbps', 'pktps')),
        bands: setOf(strong('Meter_Band'), 1),
        fair: optional(yesNo),
        external_ids,
      },
      [['name']],
    ),
    Meter_Band: item({
      action: one(word('drop')),
      rate: one(integer(1, 4294967295)),
      burst_size: one(integer(0, 4294967295)),
      external_ids,
    }),
    Logical_Router: root({
      name: one(text),
      ports: setOf(strong('Logical_Router_Port')),
      static_routes: setOf(strong('Logical_Router_Static_Route')),
      policies: setOf(strong('Logical_Router_Policy')),
      enabled: optional(yesNo),
      nat: setOf(strong('NAT')),
      load_balancer: setOf(weak('Load_Balancer')),
      load_balancer_group: setOf(strong('Load_Balancer_Group')),
      copp: optional(weak('Copp')),
      options: smap,
      external_ids,
    }),
    Logical_Router_Port: item(
      {
        name: one(text),
        gateway_chassis: setOf(strong('Gateway_Chassis')),
        ha_chassis_group: optional(strong('HA_Chassis_Group')),
        options: smap,
        networks: setOf(text, 1),
        mac: one(text),
        peer: optional(text),
        enabled: optional(yesNo),
        ipv6_ra_configs: smap,
        ipv6_prefix: setOf(text),
        status: smap,
        external_ids,
      },
      [['name']],
    ),
    Logical_Router_Static_Route: item({
      route_table: one(text),
      ip_prefix: one(text),
      policy: optional(word('src-ip', 'dst-ip')),
      nexthop: one(text),
      output_port: optional(text),
      bfd: optional(weak('BFD')),
      options: smap,
      external_ids,
    }),
    Logical_Router_Policy: item({
      priority: one(integer(0, 32767)),
      match: one(text),
      action: one(word('allow', 'drop', 'reroute')),
      nexthop: optional(text),
      nexthops: setOf(text),
      options: smap,
      external_ids,
    }),
    NAT: item({
      external_ip: one(text),
      external_mac: optional(text),
      external_port_range: one(text),
      logical_ip: one(text),
      logical_port: optional(text),
      type: one(word('dnat', 'snat', 'dnat_and_snat')),
      allowed_ext_ips: optional(strong('Address_Set')),
      exempted_ext_ips: optional(strong('Address_Set')),
      gateway_port: optional(weak('Logical_Router_Port')),
      options: smap,
      external_ids,
    }),
    DHCP_Options: root({ cidr: one(text), options: smap, external_ids }),
    DNS: root({ records: smap, external_ids }),
    Gateway_Chassis: item(
      { name: one(text), chassis_name: one(text), priority: one(integer(0, 32767)), options: smap, external_ids },
      [['name']],
    ),
    HA_Chassis: item({ chassis_name: one(text), priority: one(integer(0, 32767)), external_ids }),
    HA_Chassis_Group: root({ name: one(text), ha_chassis: setOf(strong('HA_Chassis')), external_ids }, [['name']]),
    BFD: root(
      {
        logical_port: one(text),
        dst_ip: one(text),
        min_tx: optional({ type: 'integer', minInteger: 1 }),
        min_rx: optional({ type: 'integer' }),
        detect_mult: optional({ type: 'integer', minInteger: 1 }),
        status: optional(word('down', 'init', 'up', 'admin_down')),
        options: smap,
        external_ids,
      },
      [['logical_port', 'dst_ip']],
    ),
    Static_MAC_Binding: root(
      { logical_port: one(text), ip: one(text), mac: one(text), override_dynamic_mac: one(yesNo) },
      [['logical_port', 'ip']],
    ),
    Chassis_Template_Var: root({ chassis: one(text), variables: smap, external_ids }, [['chassis']]),
  },
};

export const southbound: DatabaseSchema = {
  name: 'OVN_Southbound',
  version: '20.27.0',
  tables: {
    SB_Global: root({ nb_cfg: one(number), external_ids, options: smap, ipsec: one(yesNo) }, [], 1),
    Chassis: root(
      {
        name: one(text),
        hostname: one(text),
        encaps: setOf(strong('Encap'), 1),
        nb_cfg: one(number),
        other_config: smap,
        external_ids,
      },
      [['name']],
    ),
    // Without OVN's index on type and ip: simulated hosts may share an address.
    Encap: item({
      type: one(word('geneve', 'stt', 'vxlan')),
      options: smap,
      ip: one(text),
      chassis_name: one(text),
    }),
    Service_Monitor: root(
      {
        ip: one(text),
        protocol: optional(word('tcp', 'udp')),
        port: one(integer(0, 65535)),
        logical_port: one(text),
        src_mac: one(text),
        src_ip: one(text),
        status: optional(word('online', 'offline', 'error')),
        options: smap,
        external_ids,
      },
      [['logical_port', 'ip', 'port', 'protocol']],
    ),
  },
};

/** The schema as `get_schema` answers it. */
export function schemaJson({ name, version, tables }: DatabaseSchema): unknown {
  return {
    name,
    version,
    tables: Object.fromEntries(
      Object.entries(tables).map(([table, { columns, isRoot, maxRows, indexes }]) => [
        table,
        {
          columns: Object.fromEntries(
            Object.entries(columns).map(([column, type]) => [column, { type: typeJson(type) }]),
          ),
          ...(isRoot ? { isRoot } : {}),
          ...(maxRows < unlimited ? { maxRows } : {}),
          ...(indexes.length > 0 ? { indexes } : {}),
        },
      ]),
    ),
  };
}

function typeJson({ key, value, min, max }: ColumnType): unknown {
  return {
    key: baseJson(key),
    ...(value ? { value: baseJson(value) } : {}),
    min,
    max: max === unlimited ? 'unlimited' : max,
  };
}

function baseJson(base: BaseType): unknown {
  return base.enum ? { ...base, enum: ['set', base.enum] } : base;
}
