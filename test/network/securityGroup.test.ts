/** Rules of both families, that name groups and themselves: what is kept, what OVN has of it, what is refused, who may not go, and which of them decides. */
import { afterEach, describe, expect, inject, test } from 'vitest';
import { securityGroupName } from '../../activities/network/securityGroup.ts';
import type { OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { follower } from '../support/operations.ts';
import { answer } from '../support/people.ts';
import { setRules as setFaults } from '../support/rollback.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, wrong, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const zoneId = cloud.zone.id;
const until = follower(admin);
afterEach(() => setFaults(admin, []));

type Group = Resource & { rules: Record<string, unknown>[]; remoteSecurityGroupIds: string[] };

const any = { direction: 'in', protocol: 'any' };
const naming = (remoteSecurityGroupId: string) => ({ ...any, remoteSecurityGroupId });
const newGroup = (rules: unknown[] = [], more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'security-groups', { name: 'rules', zoneId, rules, ...more });
const now = (id: string): Promise<Group> => tenant.call('GET', `/v1/security-groups/${id}`);
const setRules = (id: string, rules: unknown): Promise<unknown> =>
  tenant.done('POST', `/v1/security-groups/${id}/actions/setRules`, { rules });
const remove = (id: string): Promise<unknown> => tenant.done('DELETE', `/v1/security-groups/${id}`);
const refused = async (method: string, path: string, body?: unknown): Promise<unknown[]> => {
  const { status, code, violations } = await answer(tenant, method, path, body);
  return [status, code, ...(violations?.map(({ field }) => field) ?? [])];
};
async function matchesOf(id: string): Promise<string[]> {
  const { ovn } = await simulatorInventory(address.simulatorUrl);
  return ((ovn.OVN_Northbound?.ACL ?? []) as { match: string }[])
    .map(({ match }) => match)
    .filter((match) => match.includes(`@${securityGroupName(id)}`));
}

test('each rule is kept with its family, and whether it is in force; OVN has what is', async () => {
  const { id } = await newGroup([
    { direction: 'in', protocol: 'tcp', fromPort: 22, remoteCidr: 'FD00:0::/64' },
    { direction: 'in', protocol: 'icmpv6', icmpType: 128 },
    { direction: 'in', protocol: 'udp', fromPort: 53, enabled: false },
  ]);
  expect((await now(id)).rules).toEqual([
    {
      direction: 'in',
      protocol: 'tcp',
      family: 6,
      enabled: true,
      fromPort: 22,
      toPort: 22,
      remoteCidr: 'fd00::/64',
    },
    { direction: 'in', protocol: 'icmpv6', family: 6, enabled: true, icmpType: 128 },
    { direction: 'in', protocol: 'udp', family: 4, enabled: false, fromPort: 53, toPort: 53 },
  ]);
  expect((await matchesOf(id)).sort()).toEqual([
    `outport == @${securityGroupName(id)} && ip6 && icmp6 && icmp6.type == 128`,
    `outport == @${securityGroupName(id)} && ip6 && ip6.src == fd00::/64 && tcp && tcp.dst == 22`,
  ]);
  await remove(id);
});

describe('a rule that names a security group', () => {
  test('names the addresses of its ports, may name its own group, and is found by that', async () => {
    const peer = await newGroup();
    const { id } = await newGroup([naming(peer.id)]);
    await setRules(id, [naming(peer.id), { ...naming(id), family: 6 }]);
    expect((await now(id)).remoteSecurityGroupIds.sort()).toEqual([peer.id, id].sort());
    const own = `outport == @${securityGroupName(id)}`;
    expect((await matchesOf(id)).sort()).toEqual([
      `${own} && ip4 && ip4.src == $${securityGroupName(peer.id)}_ip4`,
      `${own} && ip6 && ip6.src == $${securityGroupName(id)}_ip6`,
    ]);
    const filter = encodeURIComponent(`remoteSecurityGroups:(id = "${peer.id}")`);
    const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/security-groups?filter=${filter}`);
    expect(items.map((one) => one.id)).toEqual([id]);
    await remove(id);
    await remove(peer.id);
    // One that is about to be made names itself by the id that it asks for.
    const requestedId = crypto.randomUUID();
    await newGroup([naming(requestedId)], { requestedId });
    expect((await now(requestedId)).remoteSecurityGroupIds).toEqual([requestedId]);
    await remove(requestedId);
  });

  test('keeps that from being deleted, until none does any more', async () => {
    const peer = await newGroup();
    const { id } = await newGroup([naming(peer.id)]);
    const path = `/v1/security-groups/${peer.id}`;
    expect(await refused('DELETE', path)).toEqual([409, 'HAS_DEPENDENTS']);
    await setRules(id, []);
    await remove(peer.id);
    await remove(id);
  });

  test('keeps it while it is only on its way: the deletion waits, and finds it named', async () => {
    const peer = await newGroup();
    const { id } = await newGroup();
    await setFaults(admin, [{ targetId: id, step: 'securityGroups.recordRules', fault: 'failBefore' }]);
    const path = `/v1/security-groups/${id}/actions/setRules`;
    const setting = await tenant.call<OperationView>('POST', path, { rules: [naming(peer.id)] });
    await until(setting.id, ({ state }) => state === 'stuck');
    const deletion = await tenant.call<OperationView>('DELETE', `/v1/security-groups/${peer.id}`);
    await setFaults(admin, []);
    await admin.call('POST', `/v1/operations/${setting.id}/actions/retry`, {});
    expect((await tenant.settled(setting.id)).state).toBe('succeeded');
    const ended = await tenant.settled(deletion.id);
    expect([ended.state, ended.error?.code, ended.error?.step]).toEqual([
      'failed',
      'HAS_DEPENDENTS',
      'securityGroups.proveUnused',
    ]);
    await remove(id);
    await remove(peer.id);
  });

  test('never names one that is gone, whoever asks for what at the same moment', async () => {
    for (let round = 0; round < 4; round++) {
      const peer = await newGroup();
      const { id } = await newGroup();
      const asked: [method: string, path: string, body?: unknown][] = [
        ['DELETE', `/v1/security-groups/${peer.id}`],
        ['POST', `/v1/security-groups/${id}/actions/setRules`, { rules: [naming(peer.id)] }],
      ];
      const answers = await Promise.all(
        (round % 2 ? asked : asked.toReversed()).map(([method, path, body]) => answer(tenant, method, path, body)),
      );
      for (const one of answers)
        if (one.status === 202) await tenant.settled((one as unknown as OperationView).id);
        else expect(['HAS_DEPENDENTS', 'INVALID_STATE', 'NOT_FOUND']).toContain(one.code);
      const isThere = (await answer(tenant, 'GET', `/v1/security-groups/${peer.id}`)).status === 200;
      expect((await now(id)).remoteSecurityGroupIds).toEqual(isThere ? [peer.id] : []);
      await remove(id);
      if (isThere) await remove(peer.id);
    }
    expect(await wrong()).toEqual([]);
  });

  test('is refused where there is none such, and where the group is of another zone', async () => {
    const { id } = await newGroup();
    const zone = await admin.call('POST', '/v1/zones', { name: `other-${crypto.randomUUID()}` });
    const foreign = await make(admin, 'security-groups', {
      name: 'foreign',
      zoneId: zone.id,
      projectId: (await now(id)).projectId,
    });
    for (const [rule, status, code] of [
      [naming(crypto.randomUUID()), 404, 'NOT_FOUND'],
      [naming(foreign.id), 422, 'INVALID_ARGUMENT'],
      [{ ...naming(id), remoteCidr: '::/0' }, 422, 'INVALID_ARGUMENT'],
    ] as const)
      for (const [path, more] of [
        ['/v1/security-groups', { name: 'refused', zoneId }],
        [`/v1/security-groups/${id}/actions/setRules`, {}],
      ] as const)
        expect(await refused('POST', path, { ...more, rules: [any, rule] })).toEqual([
          status,
          code,
          'rules.1.remoteSecurityGroupId',
        ]);
    expect(
      await refused('POST', '/v1/security-groups', { name: 'many', zoneId, rules: Array(10_000).fill(any) }),
    ).toEqual([422, 'INVALID_ARGUMENT', 'rules']);
    await remove(id);
    await admin.done('DELETE', `/v1/security-groups/${foreign.id}`);
    await admin.call('DELETE', `/v1/zones/${zone.id}`);
  });

  test('groups that name each other in a circle go with their project', async () => {
    const project = await admin.call('POST', '/v1/projects', {
      name: `circle-${crypto.randomUUID()}`,
      accountId: cloud.account.id,
    });
    const inIt = (): Promise<Resource> =>
      make(admin, 'security-groups', { name: 'circle', zoneId, projectId: project.id });
    const [one, other] = [await inIt(), await inIt()];
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const)
      await admin.done('POST', `/v1/security-groups/${from.id}/actions/setRules`, { rules: [naming(to.id)] });
    expect((await answer(admin, 'DELETE', `/v1/security-groups/${one.id}`)).code).toBe('HAS_DEPENDENTS');
    await admin.done('DELETE', `/v1/projects/${project.id}?cascade=true&expunge=true`);
    for (const { id } of [one, other])
      expect((await answer(admin, 'GET', `/v1/security-groups/${id}`)).status).toBe(404);
    expect(await wrong()).toEqual([]);
  });
});

describe('which rule decides', () => {
  test('is told of a packet, of the records as they are', async () => {
    const offices = await make(tenant, 'address-groups', {
      name: 'offices',
      family: 4,
      entries: [{ cidr: '192.0.2.0/24' }],
    });
    const peer = await newGroup();
    const { id } = await newGroup([
      { direction: 'in', protocol: 'tcp', fromPort: 80 },
      { direction: 'in', protocol: 'tcp', fromPort: 22, remoteAddressGroupId: offices.id },
      { direction: 'in', protocol: 'icmp', remoteSecurityGroupId: peer.id },
    ]);
    const deploy = (securityGroupIds: string[]): Promise<Resource> =>
      make(
        tenant,
        'instances',
        instanceBody(cloud, 'told', {
          startOnCreate: false,
          networkInterfaces: [{ subnetId: cloud.subnet.id, securityGroupIds }],
        }),
      );
    const [mine, its] = [await deploy([id]), await deploy([peer.id])];
    const portOf = async (instanceId: string): Promise<Resource> => {
      const filter = encodeURIComponent(`instanceId = "${instanceId}"`);
      const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/network-interfaces?filter=${filter}`);
      return items[0] as Resource;
    };
    const [port, remote] = [await portOf(mine.id), await portOf(its.id)];
    const ask = async (query: string): Promise<unknown> => {
      const path = `/v1/network-interfaces/${port.id}/views/allowedTraffic?${query}`;
      const told = await tenant.call<{ allowed: boolean; decidedBy: string; rules: { index: number }[] } & Resource>(
        'GET',
        path,
      );
      return [told.allowed, told.decidedBy, ...told.rules.map(({ index }) => index)];
    };
    const from = String(remote.address);
    expect(await ask('direction=in&protocol=tcp&port=80&address=10.200.0.1')).toEqual([true, 'rule', 0]);
    expect(await ask('direction=in&protocol=tcp&port=22&address=10.200.0.1')).toEqual([false, 'noRule']);
    expect(await ask('direction=in&protocol=tcp&port=22&address=192.0.2.7')).toEqual([true, 'rule', 1]);
    expect(await ask(`direction=in&protocol=icmp&address=${from}`)).toEqual([true, 'rule', 2]);
    expect(await ask('direction=in&protocol=icmp&address=10.200.0.1')).toEqual([false, 'noRule']);
    expect(await ask('direction=out&protocol=udp&port=53&address=10.200.0.1')).toEqual([true, 'outboundOpen']);
    expect(await ask('direction=in&protocol=tcp&port=80&address=fd00::1')).toEqual([false, 'portSecurity']);
    await setRules(id, [{ direction: 'out', protocol: 'tcp', fromPort: 443 }]);
    expect(await ask('direction=out&protocol=udp&port=53&address=10.200.0.1')).toEqual([false, 'noRule', 0]);
    expect(await ask('direction=out&protocol=udp&port=67&address=255.255.255.255')).toEqual([true, 'addressRequest']);
    const view = `/v1/network-interfaces/${port.id}/views/allowedTraffic`;
    for (const [query, ...fields] of [
      ['', 'direction', 'protocol', 'address'],
      ['?direction=in&protocol=tcp&address=10.0.0.1', 'port'],
      ['?direction=in&protocol=icmp&address=10.0.0.1&port=80', 'port'],
      ['?direction=in&protocol=tcp&address=10.0.0.1&port=0', 'port'],
      ['?direction=in&protocol=tcp&address=10.0.0.1&port=80&icmpType=8', 'icmpType'],
      ['?direction=in&protocol=icmp&address=fd00::1', 'protocol'],
      ['?direction=in&protocol=tcp&address=10.0.0.01&port=80', 'address'],
      ['?direction=up&protocol=tcp&address=10.0.0.1&port=80', 'direction'],
    ] as const)
      expect(await refused('GET', view + query)).toEqual([422, 'INVALID_ARGUMENT', ...fields]);
    for (const one of [mine, its]) await removeInstance(one.id);
    await remove(id);
    await remove(peer.id);
    await tenant.done('DELETE', `/v1/address-groups/${offices.id}`);
  });
});
