/** A project with one of everything in it, to be deleted with all of that. */
import type { Api, Resource } from '../../lab/api.ts';
import { type Cloud, instanceBody, make } from '../../lab/provision.ts';

export interface Tree {
  project: Resource;
  running: Resource;
  destroyed: Resource;
  volume: Resource;
  loose: Resource;
  network: Resource;
}

/** What a project with everything in it goes by: what can be taken back, and what follows the point of no return. */
export const destroyed = ['instance.stop', 'volume.detach', 'instance.delete', 'volume.delete'];
export const removed = [
  'listener.delete',
  'loadBalancer.delete',
  'targetGroup.delete',
  'snapshot.delete',
  'instance.expunge',
  'volume.expunge',
  'subnet.delete',
  'securityGroup.delete',
  'firewallPolicy.delete',
  'addressGroup.delete',
  'network.delete',
  'vpc.delete',
  'project.delete',
];

/** It tells OVN how gateways watch each other, and that stays. */
export async function firstVpc({ tenant, zone }: Pick<Cloud, 'tenant' | 'zone'>): Promise<void> {
  const { id } = await make(tenant, 'vpcs', { name: 'first', zoneId: zone.id, cidrs: ['10.9.0.0/16'] });
  await tenant.done('DELETE', `/v1/vpcs/${id}`);
}

export async function plant(admin: Api, cloud: Cloud, accountId = cloud.account.id): Promise<Tree> {
  const zoneId = cloud.zone.id;
  const volumeTypeId = cloud.volumeTypes[0]?.id;
  const project = await admin.call('POST', '/v1/projects', { name: crypto.randomUUID(), accountId });
  const { id: projectId } = project;
  const network = await make(admin, 'networks', { name: 'n', zoneId, projectId });
  const subnet = await make(admin, 'subnets', { name: 's', networkId: network.id, cidr: '10.9.0.0/24' });
  const { id: vpcId } = await make(admin, 'vpcs', { name: 'v', zoneId, projectId, cidrs: ['10.9.0.0/16'] });
  const tier = await make(admin, 'networks', { name: 't', zoneId, projectId, vpcId });
  const inTier = await make(admin, 'subnets', { name: 't', networkId: tier.id, cidr: '10.9.1.0/24' });
  const backends = { name: 't', projectId, vpcId, protocol: 'tcp', port: 80, targets: [{ address: '10.9.1.9' }] };
  const targets = await admin.call('POST', '/v1/target-groups', backends);
  const internal = { name: 'b', projectId, vpcId, scheme: 'internal', subnetId: inTier.id };
  const balancer = await make(admin, 'load-balancers', internal);
  await make(admin, 'listeners', {
    name: 'l',
    loadBalancerId: balancer.id,
    protocol: 'tcp',
    ports: { from: 80 },
    targetGroupId: targets.id,
  });
  const addresses = await make(admin, 'address-groups', { name: 'a', family: 4, projectId });
  const rules = [{ direction: 'in', protocol: 'any', remoteAddressGroupId: addresses.id }];
  const group = await make(admin, 'security-groups', { name: 'g', zoneId, projectId, rules });
  const policy = await make(admin, 'firewall-policies', {
    name: 'p',
    projectId,
    rules: [
      { priority: 1, direction: 'in', action: 'deny', protocol: 'icmp', source: { addressGroupId: addresses.id } },
    ],
    defaults: { in: 'allow', out: 'allow' },
  });
  await admin.done('POST', `/v1/networks/${network.id}/actions/setFirewallPolicy`, { firewallPolicyId: policy.id });
  const inIt = (name: string): Promise<Resource> =>
    make(
      admin,
      'instances',
      instanceBody(cloud, name, {
        projectId,
        networkInterfaces: [{ subnetId: subnet.id, securityGroupIds: [group.id] }],
      }),
    );
  const [running, destroyed] = await Promise.all([inIt('running'), inIt('destroyed')]);
  await admin.done('DELETE', `/v1/instances/${destroyed.id}`);
  const volumeOf = (name: string): Promise<Resource> =>
    make(admin, 'volumes', { name, zoneId, volumeTypeId, sizeGib: 1, projectId });
  const [volume, loose] = await Promise.all([volumeOf('attached'), volumeOf('loose')]);
  await admin.done('POST', `/v1/volumes/${volume.id}/actions/attach`, { instanceId: running.id });
  await make(admin, 'snapshots', { name: 'of the disk', volumeId: volume.id });
  await admin.call('POST', '/v1/key-pairs', {
    name: 'k',
    projectId,
    publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key',
  });
  return { project, running, destroyed, volume, loose, network };
}
