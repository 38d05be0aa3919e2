/** Many who want the same thing, or the last of it, at once: exactly as many get it as there is, and the others are told why. */
import { afterAll, describe, expect, inject, test } from 'vitest';
import { ApiError, type ApiProblem, type OperationView, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { uniquenesses } from '../../model/uniqueness.ts';
import { joinCloud } from '../support/cloud.ts';
import { newOutside, type Outside } from '../support/outside.ts';

const address = inject('cloud');
const { admin, cloud, removeInstance, wrong } = joinCloud(address);
const { tenant } = cloud;
const rootDomain = '00000000-0000-4000-8000-000000000002';

const atOnce = 12;
const rounds = 3;

let outside: Promise<Outside> | undefined;
/** What a race needs is made when the first asks for it, and goes at the end. */
const undone: (() => Promise<unknown>)[] = [];
function once<T>(begin: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= begin();
    return made;
  };
}
const lasting = async (api: typeof admin, plural: string, body: Record<string, unknown>): Promise<string> => {
  const { id } = await make(api, plural, { name: crypto.randomUUID(), ...body });
  undone.unshift(() => admin.done('DELETE', `/v1/${plural}/${id}`));
  return id;
};
const zoneId = cloud.zone.id;
const wire = once(() =>
  lasting(admin, 'physical-networks', {
    zoneId,
    encapsulation: 'vlan',
    bridge: 'br-races',
    segmentRanges: [{ from: 1, to: 9 }],
  }),
);
const newWire = (more: Record<string, unknown>): Promise<Resource> =>
  admin.call('POST', '/v1/physical-networks', { name: crypto.randomUUID(), zoneId, encapsulation: 'vlan', ...more });
const subnet6 = once(() =>
  lasting(tenant, 'subnets', { networkId: cloud.network.id, cidr: 'fd00:77::/64', ipv6Mode: 'dhcpv6' }),
);
/** One for each who asks: in one network, two that overlap would be refused for that. */
const networksOfVpc = once(async () => {
  const vpcId = await lasting(tenant, 'vpcs', { zoneId, cidrs: ['10.201.0.0/16'] });
  return Promise.all(Array.from({ length: atOnce }, () => lasting(tenant, 'networks', { zoneId, vpcId })));
});
const vpcOutside = once(async () => {
  outside ??= newOutside(admin, cloud, 'raced');
  const uplink = { networkId: (await outside).network.id };
  return lasting(tenant, 'vpcs', { zoneId, cidrs: ['10.202.0.0/16'], uplink });
});
/** Each in a network of its own. */
const subnetsOfVpc = once(async () => {
  const vpcId = await lasting(tenant, 'vpcs', { zoneId, cidrs: ['10.202.0.0/16'] });
  const made: string[] = [];
  for (const cidr of ['10.202.1.0/24', '10.202.2.0/24', '10.202.3.0/24'])
    made.push(
      await lasting(tenant, 'subnets', { networkId: await lasting(tenant, 'networks', { zoneId, vpcId }), cidr }),
    );
  return made;
});
afterAll(async () => {
  for (const undo of undone) await undo();
  await (await outside)?.remove();
});

type Answer = ApiProblem | Resource;
const isProblem = (answer: Answer): answer is ApiProblem => 'code' in answer && 'detail' in answer;

/** What each of many equal requests is answered. */
const race = (ask: (index: number) => Promise<Resource>): Promise<Answer[]> =>
  Promise.all(
    Array.from({ length: atOnce }, (_, index) =>
      ask(index).catch((error: unknown) => {
        if (error instanceof ApiError) return error.problem;
        throw error;
      }),
    ),
  );

const unique = (): string => crypto.randomUUID();

interface Race {
  /** One try; all of a round share the value. */
  ask: (shared: string) => (index: number) => Promise<Resource>;
  code: string;
  field: string;
  remove: (winner: Resource) => Promise<unknown>;
}

const gone = (plural: string) => (winner: Resource) => admin.call('DELETE', `/v1/${plural}/${winner.id}`);
const goneInTheEnd = (plural: string) => async (winner: Resource) => {
  const { targetId } = winner as unknown as OperationView;
  await admin.settled(winner.id);
  return admin.done('DELETE', `/v1/${plural}/${targetId}`);
};
const named =
  (plural: string, more: Record<string, unknown> = {}): Race['ask'] =>
  (shared) =>
  () =>
    admin.call('POST', `/v1/${plural}`, { name: shared, ...more });

/** The last of the simulated hosts that belong to nobody. */
const spareAddress = String(cloud.hosts[0]?.address).replace(/[^/]+$/, 'host-207');

/** What the API lets anybody ask for; the rest is made by the platform alone. */
const races: Record<string, Race | 'by the platform alone'> = {
  domain_parentId_name_living: {
    ask: named('domains', { parentId: rootDomain }),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: gone('domains'),
  },
  account_domainId_name_living: {
    ask: named('accounts', { domainId: rootDomain }),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: gone('accounts'),
  },
  project_accountId_name_living: {
    ask: named('projects', { accountId: cloud.account.id }),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: gone('projects'),
  },
  project_accountId_living: 'by the platform alone',
  user_accountId_userName_living: {
    ask: (shared) => () =>
      admin.call('POST', '/v1/users', { name: unique(), userName: shared, accountId: cloud.account.id }),
    code: 'NAME_IN_USE',
    field: 'userName',
    remove: gone('users'),
  },
  apiKey_accessKey_living: 'by the platform alone',
  role_name_living: {
    ask: named('roles', { permissions: [] }),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: gone('roles'),
  },
  quota_scopeId_counter_living: {
    ask: () => () =>
      admin.call('POST', '/v1/quotas', {
        name: unique(),
        scopeKind: 'account',
        scopeId: cloud.account.id,
        counter: 'images',
        limit: 1_000_000,
      }),
    code: 'NAME_IN_USE',
    field: 'counter',
    remove: gone('quotas'),
  },
  zone_name_living: { ask: named('zones'), code: 'NAME_IN_USE', field: 'name', remove: gone('zones') },
  host_address_sshPort_living: {
    ask: () => (index) =>
      admin.call('POST', '/v1/hosts', {
        name: `same-${index}`,
        clusterId: cloud.cluster.id,
        address: spareAddress,
      }),
    code: 'ADDRESS_IN_USE',
    field: 'address',
    remove: goneInTheEnd('hosts'),
  },
  storagePool_storageClusterId_pool_living: {
    ask: (shared) => (index) => makePool(shared, `same-${index}`),
    code: 'NAME_IN_USE',
    field: 'pool',
    remove: goneInTheEnd('storage-pools'),
  },
  subnet_networkId_cidr_living: {
    ask: () => (index) =>
      tenant.call('POST', '/v1/subnets', {
        name: unique(),
        networkId: cloud.network.id,
        // Some are equal, some only lie in each other.
        cidr: ['10.200.0.0/16', '10.200.0.0/24', '10.200.0.0/24'][index % 3],
      }),
    code: 'ADDRESS_IN_USE',
    field: 'cidr',
    remove: goneInTheEnd('subnets'),
  },
  securityGroup_projectId_living: 'by the platform alone',
  networkInterface_networkId_mac_living: {
    ask: () => () =>
      tenant.call('POST', '/v1/network-interfaces', {
        name: unique(),
        subnetId: cloud.subnet.id,
        mac: '02:aa:bb:cc:dd:ee',
      }),
    code: 'ADDRESS_IN_USE',
    field: 'mac',
    remove: goneInTheEnd('network-interfaces'),
  },
  networkInterface_subnet6Id_address6_living: {
    ask: () => async () =>
      tenant.call('POST', '/v1/network-interfaces', {
        name: unique(),
        subnetId: cloud.subnet.id,
        subnet6Id: await subnet6(),
        address6: 'fd00:77::99',
      }),
    code: 'ADDRESS_IN_USE',
    field: 'address6',
    remove: goneInTheEnd('network-interfaces'),
  },
  physicalNetwork_zoneId_name_living: {
    ask: (shared) => (index) => newWire({ name: shared, bridge: `br-${index}` }),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: goneInTheEnd('physical-networks'),
  },
  physicalNetwork_zoneId_bridge_living: {
    ask: () => () => newWire({ bridge: 'br-raced' }),
    code: 'NAME_IN_USE',
    field: 'bridge',
    remove: goneInTheEnd('physical-networks'),
  },
  network_physicalNetworkId_segmentId_living: {
    ask: () => async () =>
      admin.call('POST', '/v1/networks', {
        name: unique(),
        zoneId: cloud.zone.id,
        projectId: cloud.project.id,
        type: 'vlan',
        physicalNetworkId: await wire(),
        segmentId: 7,
      }),
    code: 'ADDRESS_IN_USE',
    field: 'segmentId',
    remove: goneInTheEnd('networks'),
  },
  routerType_name_living: {
    ask: named('router-types'),
    code: 'NAME_IN_USE',
    field: 'name',
    remove: gone('router-types'),
  },
  routeTable_vpcId_living: 'by the platform alone',
  subnet_vpcId_cidr_living: {
    ask: () => async (index) =>
      tenant.call('POST', '/v1/subnets', {
        name: unique(),
        networkId: (await networksOfVpc())[index],
        cidr: ['10.201.0.0/16', '10.201.0.0/24', '10.201.0.0/24'][index % 3],
      }),
    code: 'ADDRESS_IN_USE',
    field: 'cidr',
    remove: goneInTheEnd('subnets'),
  },
  networkInterface_instanceId_index_living: 'by the platform alone',
  networkInterface_networkId_dnsName_living: {
    ask: (dnsName) => () =>
      tenant.call('POST', '/v1/network-interfaces', {
        name: unique(),
        subnetId: cloud.subnet.id,
        dnsName: `n${dnsName}`,
      }),
    code: 'NAME_IN_USE',
    field: 'dnsName',
    remove: goneInTheEnd('network-interfaces'),
  },
  networkInterface_vpcId_dnsName_living: {
    ask: (dnsName) => async (index) =>
      tenant.call('POST', '/v1/network-interfaces', {
        name: unique(),
        subnetId: (await subnetsOfVpc())[index % 3],
        dnsName: `n${dnsName}`,
      }),
    code: 'NAME_IN_USE',
    field: 'dnsName',
    remove: goneInTheEnd('network-interfaces'),
  },
  networkInterface_subnetId_address_living: {
    ask: () => () =>
      tenant.call(
        'POST',
        '/v1/instances',
        instanceBody(cloud, unique(), {
          startOnCreate: false,
          networkInterfaces: [{ subnetId: cloud.subnet.id, address: '10.77.88.99' }],
        }),
      ),
    code: 'ADDRESS_IN_USE',
    field: 'networkInterfaces.0.address',
    async remove(winner) {
      await admin.settled(winner.id);
      await removeInstance((winner as unknown as OperationView).targetId);
    },
  },
  floatingIp_subnetId_address_living: {
    ask: () => async () => {
      outside ??= newOutside(admin, cloud, 'raced');
      const networkId = (await outside).network.id;
      return tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId, address: '198.51.100.77' });
    },
    code: 'ADDRESS_IN_USE',
    field: 'address',
    remove: ({ id }) => tenant.done('DELETE', `/v1/floating-ips/${id}`),
  },
  floatingIp_networkInterfaceId_living: 'by the platform alone',
  loadBalancer_floatingIpId_living: {
    ask: () => {
      const held = once(async () => {
        outside ??= newOutside(admin, cloud, 'raced');
        const networkId = (await outside).network.id;
        return tenant.call('POST', '/v1/floating-ips', { name: unique(), networkId });
      });
      return async () =>
        tenant.call('POST', '/v1/load-balancers', {
          name: unique(),
          scheme: 'public',
          vpcId: await vpcOutside(),
          floatingIpId: (await held()).id,
        });
    },
    code: 'ALREADY_ATTACHED',
    field: 'floatingIpId',
    async remove(winner) {
      const { targetId } = winner as unknown as OperationView;
      await admin.settled(winner.id);
      const { floatingIpId } = await tenant.call<Resource & { floatingIpId: string }>(
        'GET',
        `/v1/load-balancers/${targetId}`,
      );
      await tenant.done('DELETE', `/v1/floating-ips/${floatingIpId}?cascade=true`);
    },
  },
  volume_instanceId_deviceIndex_living: 'by the platform alone',
  volume_instanceId_living: 'by the platform alone',
  operationType_name_living: 'by the platform alone',
  setting_name_living: 'by the platform alone',
  finding_class_resourceKind_resourceId_what_living: 'by the platform alone',
};

const makePool = (pool: string, name: string, more: Record<string, unknown> = {}): Promise<Resource> =>
  admin.call('POST', '/v1/storage-pools', {
    name,
    pool,
    storageClass: 'raced',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cloud.cluster.id],
    ...more,
  });

test('every uniqueness of the model is raced here, or nobody can ask for it', () => {
  expect(Object.keys(races).sort()).toEqual([...uniquenesses.keys()].sort());
});

describe(`of ${atOnce} at once, one gets what can be there once`, () => {
  for (const [name, raced] of Object.entries(races))
    if (raced !== 'by the platform alone')
      test(name, async () => {
        for (let round = 0; round < rounds; round++) {
          const answers = await race(raced.ask(unique()));
          const refused = answers.filter(isProblem);
          expect(refused.map(({ code, violations }) => [code, violations?.[0]?.field])).toEqual(
            Array(atOnce - 1).fill([raced.code, raced.field]),
          );
          const winner = answers.find((answer) => !isProblem(answer)) as Resource;
          if (winner.type && winner.targetId)
            expect(await admin.settled(winner.id)).toMatchObject({ state: 'succeeded' });
          await raced.remove(winner);
        }
      });
});

test('of those that are renamed to one name at once, one gets it', async () => {
  const projects = await Promise.all(
    Array.from({ length: atOnce }, () =>
      admin.call('POST', '/v1/projects', { name: unique(), accountId: cloud.account.id }),
    ),
  );
  for (let round = 0; round < rounds; round++) {
    const name = unique();
    const answers = await race((index) => admin.call('PATCH', `/v1/projects/${projects[index]?.id}`, { name }));
    expect(answers.filter((answer) => !isProblem(answer))).toHaveLength(1);
    expect(new Set(answers.filter(isProblem).map(({ code }) => code))).toEqual(new Set(['NAME_IN_USE']));
  }
  for (const { id } of projects) await admin.call('DELETE', `/v1/projects/${id}`);
});

test('storage pools of one cluster that are made at once all come to be', async () => {
  const several = [1, 2, 3, 4, 5, 6];
  const made = await Promise.all(several.map((index) => makePool(unique(), `several-${index}`)));
  const ended = await Promise.all(made.map(({ id }) => admin.settled(id)));
  expect(ended.map(({ state, error }) => error?.message ?? state)).toEqual(several.map(() => 'succeeded'));
  await Promise.all(ended.map(({ targetId }) => admin.done('DELETE', `/v1/storage-pools/${targetId}`)));
  expect(await wrong()).toEqual([]);
});
