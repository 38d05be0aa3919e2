/** Something of every kind, in several states, for requests to meet. */
import type { Api, Resource } from '../../lab/api.ts';
import { type Cloud, instanceBody, make } from '../../lab/provision.ts';

const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key';
const rootDomain = '00000000-0000-4000-8000-000000000002';
const each = [1, 2, 3] as const;

async function ofTenant(tenant: Api, cloud: Cloud): Promise<void> {
  const zoneId = cloud.zone.id;
  for (const n of each) {
    const name = `stock-${n}`;
    const instance = await make(tenant, 'instances', instanceBody(cloud, name));
    const volume = await make(tenant, 'volumes', {
      name,
      zoneId,
      volumeTypeId: cloud.volumeTypes[0]?.id,
      sizeGib: n,
    });
    await make(tenant, 'snapshots', { name, volumeId: volume.id });
    await make(tenant, 'networks', { name, zoneId });
    await make(tenant, 'security-groups', { name, zoneId, rules: [] });
    await tenant.call('POST', '/v1/images', { name, zoneId });
    await tenant.call('POST', '/v1/key-pairs', { name, publicKey });
    await make(tenant, 'schedules', {
      name,
      cron: '0 0 1 1 *',
      action: 'snapshot.create',
      targets: { ids: [volume.id] },
      retention: { keepLast: n },
    });
    if (n === 1) continue;
    await tenant.done('POST', `/v1/instances/${instance.id}/actions/stop`, { mode: 'force' });
    if (n === 2) await tenant.done('POST', `/v1/volumes/${volume.id}/actions/attach`, { instanceId: instance.id });
    else await tenant.done('DELETE', `/v1/instances/${instance.id}`);
  }
}

async function ofAdministrator(admin: Api): Promise<void> {
  const { items: roles } = await admin.call<{ items: Resource[] }>('GET', '/v1/roles?pageSize=500');
  const member = roles.find(({ name }) => name === 'projectMember')?.id;
  for (const n of each) {
    const name = `stock-${n}`;
    const domain = await admin.call('POST', '/v1/domains', { name, parentId: rootDomain });
    const account = await admin.call('POST', '/v1/accounts', { name, domainId: domain.id });
    const project = await admin.call('POST', '/v1/projects', { name, accountId: account.id });
    const user = await admin.call('POST', '/v1/users', { name, userName: name, accountId: account.id });
    await admin.call('POST', '/v1/api-keys', { name, userId: user.id });
    await admin.call('POST', '/v1/roles', { name, permissions: [{ effect: 'allow', pattern: 'zone.get' }] });
    const grant = { subjectKind: 'user', subjectId: user.id, targetKind: 'project', targetId: project.id };
    await admin.call('POST', '/v1/role-bindings', { name, roleId: member, ...grant });
    const limit = { scopeKind: 'account', scopeId: account.id, counter: 'users', limit: 10 };
    await admin.call('POST', '/v1/quotas', { name, ...limit });
    const zone = await admin.call('POST', '/v1/zones', { name });
    const pod = await admin.call('POST', '/v1/pods', { name, zoneId: zone.id });
    await admin.call('POST', '/v1/clusters', { name, podId: pod.id });
    const type = await admin.call('POST', '/v1/volume-types', { name, storageClass: name });
    await admin.call('POST', '/v1/instance-types', { name, vcpus: 1, memoryMib: 256, rootVolumeTypeId: type.id });
  }
}

export async function stock(admin: Api, cloud: Cloud): Promise<void> {
  await Promise.all([ofTenant(cloud.tenant, cloud), ofAdministrator(admin)]);
}
