/** A network that leads outside, for all tenants to use. */

import { wellKnown } from '../../database/wellKnown.ts';
import type { Api, Resource } from '../../lab/api.ts';
import { type Cloud, make } from '../../lab/provision.ts';

export interface Outside {
  wire: Resource;
  network: Resource;
  range: Resource;
  remove(): Promise<void>;
}

/** On a wire of its own, through a bridge that all simulated hosts have. `third` and `bridge` are its alone. */
export async function newOutside(
  admin: Api,
  { zone, cluster }: Pick<Cloud, 'zone' | 'cluster'>,
  name: string,
  more: { bridge?: string; cidr?: string; from?: string; to?: string; quarantineSeconds?: number } = {},
): Promise<Outside> {
  const {
    bridge = `br-phy-${name}`,
    cidr = '198.51.100.0/24',
    from = '198.51.100.10',
    to = '198.51.100.250',
    ...rest
  } = more;
  const wire = await make(admin, 'physical-networks', {
    name: `outside ${name}`,
    zoneId: zone.id,
    encapsulation: 'flat',
    bridge,
    clusterIds: [cluster.id],
  });
  const network = await make(admin, 'networks', {
    name: `outside ${name}`,
    zoneId: zone.id,
    projectId: wellKnown.rootProject,
    type: 'flat',
    physicalNetworkId: wire.id,
    external: true,
    visibility: 'public',
  });
  const range = await make(admin, 'subnets', {
    name: `public ${name}`,
    networkId: network.id,
    cidr,
    allocationRanges: [{ from, to }],
    ...rest,
  });
  return {
    wire,
    network,
    range,
    async remove() {
      for (const [plural, { id }] of [
        ['subnets', range],
        ['networks', network],
        ['physical-networks', wire],
      ] as const)
        await admin.done('DELETE', `/v1/${plural}/${id}`);
    },
  };
}
