import { existsSync } from 'node:fs';
import {
  addresses,
  type HostNumber,
  hostAddress,
  hostNamespace,
  hostNumbers,
  machineLink,
  managementMtu,
  namespaces,
  outside,
  prefixLength,
  switchPorts,
  tunnelMtu,
} from './layout.ts';
import { must, run } from './processes.ts';

const bridges = ['mgmt', 'tun', 'prov'] as const;

interface Cable {
  /** null: the machine's own namespace. */
  namespace: string | null;
  link: string;
  bridge: (typeof bridges)[number];
  switchPort: string;
  mtu: number;
  /** Fixed, so that a cable that was made anew is not unknown to its neighbours for as long as their ARP entries live. */
  mac: string;
  address?: string;
}

const cables: readonly Cable[] = [
  { ...management(null, machineLink, 'm-mgr', '02:be:00:00:00:01'), address: addresses.machine },
  { ...management(namespaces.control, 'eth0', 'm-ctl', '02:be:00:00:00:02'), address: addresses.control },
  { ...management(namespaces.ceph, 'eth0', 'm-ceph', '02:be:00:00:00:03'), address: addresses.ceph },
  {
    ...management(namespaces.outside, 'eth0', 'p-out', '02:be:00:00:00:04'),
    bridge: 'prov',
    address: outside.address,
  },
  ...hostNumbers.flatMap((host) => [
    {
      ...management(hostNamespace(host), 'eth0', switchPorts(host).management, `02:be:00:00:00:1${host}`),
      address: hostAddress(host),
    },
    // No address here: the host's switch takes this cable, and the tunnel endpoint's address stands on the switch.
    {
      ...management(hostNamespace(host), 'eth1', switchPorts(host).tunnel, `02:be:00:00:01:1${host}`),
      bridge: 'tun' as const,
      mtu: tunnelMtu,
    },
    // The host's switch takes this one, too: what is on it is for networks of tenants, and for nobody on the host.
    {
      ...management(hostNamespace(host), 'eth2', switchPorts(host).provider, `02:be:00:00:03:1${host}`),
      bridge: 'prov' as const,
    },
  ]),
];

/** All network namespaces of the lab. */
export const allNamespaces: readonly string[] = [...Object.values(namespaces), ...hostNumbers.map(hostNamespace)];

/** Namespaces, the switch with its networks, and every cable; what is already there stays. */
export async function upNetwork(): Promise<void> {
  for (const namespace of allNamespaces) {
    if (!existsSync(`/run/netns/${namespace}`)) await must(['ip', 'netns', 'add', namespace]);
  }
  const existing = new Set((await links(namespaces.switch)).map((link) => link.ifname));
  const inSwitch = ['link set lo up'];
  for (const bridge of bridges) {
    if (!existing.has(bridge))
      inSwitch.push(`link add ${bridge} mtu ${tunnelMtu} type bridge stp_state 0 forward_delay 0`);
    inSwitch.push(`link set ${bridge} up`);
  }
  await batch(namespaces.switch, inSwitch);
  await Promise.all(
    [...new Set(cables.map((cable) => cable.namespace))].map((namespace) => plugIn(namespace, existing)),
  );
  await batch(
    namespaces.switch,
    cables.map((cable) => `link set ${cable.switchPort} mtu ${cable.mtu} master ${cable.bridge}`),
  );
  // A host that is unplugged stays so until it is plugged in again, so only new sockets are switched on.
  const fresh = cables.filter((cable) => !existing.has(cable.switchPort));
  await batch(
    namespaces.switch,
    fresh.map((cable) => `link set ${cable.switchPort} up`),
  );
}

async function plugIn(namespace: string | null, existingSwitchPorts: ReadonlySet<string>): Promise<void> {
  const commands = namespace === null ? [] : ['link set lo up'];
  const mine = cables.filter((cable) => cable.namespace === namespace);
  const present = new Set((await links(namespace)).map((link) => link.ifname));
  for (const { link, mtu, mac, switchPort, address } of mine) {
    if (!existingSwitchPorts.has(switchPort)) {
      if (present.has(link)) commands.push(`link del ${link}`);
      commands.push(
        `link add ${link} mtu ${mtu} address ${mac} type veth peer name ${switchPort} netns ${namespaces.switch}`,
      );
    }
    if (address) commands.push(`addr replace ${address}/${prefixLength} dev ${link}`);
    commands.push(`link set ${link} up`);
  }
  await batch(namespace, commands);
  // The userspace switch does not fill in checksums that a sender left to the hardware.
  await Promise.all(
    mine
      .filter((cable) => !existingSwitchPorts.has(cable.switchPort))
      .map(({ link }) =>
        run([...inside(namespace), 'ethtool', '-K', link, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']),
      ),
  );
}

/** All cables of a host: a powered-off host answers nobody, a living one with its cables pulled goes on alone. */
export async function setPlugged(host: HostNumber, plugged: boolean): Promise<void> {
  const state = plugged ? 'up' : 'down';
  await batch(
    namespaces.switch,
    Object.values(switchPorts(host)).map((port) => `link set ${port} ${state}`),
  );
}

/** Whether a host has a way to the storage; all else that it reaches stays as it is. */
export async function setStorageReached(host: HostNumber, reached: boolean): Promise<void> {
  const route = ['route', reached ? 'del' : 'replace', 'blackhole', `${addresses.ceph}/32`];
  await must(['ip', '-n', hostNamespace(host), ...route]);
}

/** Removes the taps that outlive their host here, because the network namespace does; a real power cut would take them. */
export async function removeHostTaps(host: HostNumber): Promise<void> {
  const leftBehind = (await links(hostNamespace(host))).filter(
    ({ ifname }) => !['lo', 'eth0', 'eth1', 'eth2'].includes(ifname),
  );
  for (const { ifname } of leftBehind) await run(['ip', '-n', hostNamespace(host), 'link', 'del', ifname]);
}

export async function downNetwork(): Promise<void> {
  await run(['ip', 'link', 'del', machineLink]);
  for (const namespace of allNamespaces) {
    if (existsSync(`/run/netns/${namespace}`)) await must(['ip', 'netns', 'del', namespace]);
  }
}

/** The argv prefix that runs a command in a network namespace. */
export function inside(namespace: string | null): string[] {
  return namespace === null ? [] : ['ip', 'netns', 'exec', namespace];
}

function management(namespace: string | null, link: string, switchPort: string, mac: string): Cable {
  return { namespace, link, bridge: 'mgmt', switchPort, mtu: managementMtu, mac };
}

async function links(namespace: string | null): Promise<{ ifname: string }[]> {
  const { code, stdout } = await run(['ip', ...(namespace === null ? [] : ['-n', namespace]), '-j', 'link']);
  return code === 0 && stdout.trim() !== '' ? (JSON.parse(stdout) as { ifname: string }[]) : [];
}

async function batch(namespace: string | null, commands: readonly string[]): Promise<void> {
  if (commands.length === 0) return;
  const target = namespace === null ? [] : ['-n', namespace];
  await must(['ip', ...target, '-batch', '-'], { input: `${commands.join('\n')}\n` });
}
