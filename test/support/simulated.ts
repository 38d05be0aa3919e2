/** The simulator's inventory, as the comparison of records and reality wants it. */
import type { SimulatorInventory } from '../../lab/simulated/simulator.ts';
import type { Reality } from './world.ts';

export async function simulatorInventory(url: string): Promise<SimulatorInventory> {
  return (await (await fetch(`${url}/_sim/inventory`)).json()) as SimulatorInventory;
}

/** What befalls a simulated host. */
export async function befall(url: string, host: string, what: string, body: Record<string, unknown>): Promise<void> {
  const response = await fetch(`${url}/_sim/hosts/${host}/${what}`, { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${what} of ${host}: ${response.status} ${await response.text()}`);
}

/** What somebody does at a simulated host, past the agent's rules of whose turn it is. */
export const byHand = (url: string, host: string, call: string, input: unknown): Promise<void> =>
  befall(url, host, 'byHand', { call, input });

/** Names of the logical switch ports of interfaces in the northbound record: others have a type. */
function portNames(ovn: SimulatorInventory['ovn']): string[] {
  const rows = Object.values(ovn).flatMap((tables) => tables.Logical_Switch_Port ?? []);
  return rows.flatMap((row) =>
    row !== null && typeof row === 'object' && 'name' in row && !('type' in row) ? [String(row.name)] : [],
  );
}

export function realityOf(inventory: SimulatorInventory): Reality {
  const reality: Reality = {
    running: new Map(),
    defined: new Map(),
    images: new Set(),
    trashed: new Set(),
    ports: new Set(),
  };
  const add = (to: Map<string, string[]>, id: string, host: string): void =>
    void to.set(id, [...(to.get(id) ?? []), host]);
  for (const [name, host] of Object.entries(inventory.hosts)) {
    for (const [id, domain] of Object.entries(host.domains)) {
      add(reality.defined, id, name);
      if (domain.state === 'running') add(reality.running, id, name);
    }
  }
  for (const [pool, { images, trash }] of Object.entries({ ...inventory.ceph.pools, ...inventory.files })) {
    for (const image of Object.keys(images)) if (!image.startsWith('image-')) reality.images.add(`${pool}/${image}`);
    for (const image of Object.keys(trash)) reality.trashed.add(`${pool}/${image}`);
  }
  for (const name of portNames(inventory.ovn)) reality.ports.add(name);
  return reality;
}
