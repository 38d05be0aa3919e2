/** What is made and removed with the tools of the real systems, past Belay, is found and repaired. */
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { networkGroup, switchName } from '../../activities/network/network.ts';
import { securityGroupName } from '../../activities/network/securityGroup.ts';
import { openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { labPaths } from '../../lab/real/layout.ts';
import { northboundSocket } from '../../lab/real/ovn.ts';
import { must } from '../../lab/real/processes.ts';
import { setSetting } from '../support/settings.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };

let lab: Lab;
let restoreGrace: () => Promise<void> = async () => {};
let restoreRepair: () => Promise<void> = async () => {};
let guest: Resource;
let host = 0;

beforeAll(async () => {
  lab = await attachLab(home);
  restoreGrace = await setSetting(admin, 'audit.graceSeconds', 0);
  // Here each is asked for.
  restoreRepair = await setSetting(admin, 'audit.autoRepair', []);
  const { id } = await make(tenant, 'instances', instanceBody(cloud, 'audited'));
  guest = await admin.call('GET', `/v1/instances/${id}`);
  host = cloud.hosts.findIndex((one) => one.id === guest.hostId) + 1;
});
afterAll(async () => {
  await restoreGrace();
  await restoreRepair();
  await tenant.done('DELETE', `/v1/instances/${guest.id}`);
  await tenant.done('POST', `/v1/instances/${guest.id}/actions/expunge`, {});
});

async function onHost(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.execHost(host, argv, { timeoutMs: 30_000 });
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
  return stdout;
}
const virsh = (...argv: string[]): Promise<string> => onHost('virsh', '-c', 'qemu:///system', ...argv);
const nbctl = (...argv: string[]): Promise<string> =>
  must(['ovn-nbctl', `--db=unix:${northboundSocket(labPaths(home))}`, '--timeout=15', ...argv]);

const stateOf = async (resourceId: string, as: string): Promise<[string, string]> => {
  const { items } = await admin.call<{ items: (Resource & { class: string; what: string })[] }>(
    'GET',
    `/v1/findings?filter=${encodeURIComponent(`resourceId = "${resourceId}"`)}`,
  );
  const one = items.find((finding) => `${finding.class} ${finding.what}` === as);
  return [one?.id ?? '', one?.state ?? 'none'];
};
/** Seen twice, repaired, and not seen again. */
async function foundAndRepaired(resourceId: string, as: string, scope: Record<string, unknown>): Promise<void> {
  for (const _ of [1, 2]) await admin.done('POST', '/v1/findings/actions/scan', scope);
  const [id, state] = await stateOf(resourceId, as);
  expect(state).toBe('open');
  await admin.done('POST', `/v1/findings/${id}/actions/repair`, {});
  await admin.done('POST', '/v1/findings/actions/scan', scope);
  expect((await stateOf(resourceId, as))[1]).toBe('repaired');
}

test('all is as recorded before anybody has touched it', async () => {
  for (const _ of [1, 2]) await admin.done('POST', '/v1/findings/actions/scan', {});
  const { items } = await admin.call<{ items: Resource[] }>(
    'GET',
    `/v1/findings?filter=${encodeURIComponent('class != "risk" AND (state = "open" OR state = "sighted")')}`,
  );
  expect(items).toEqual([]);
});

test('a domain that was defined with virsh is undefined again', async () => {
  const stray = crypto.randomUUID();
  const xml = (await virsh('dumpxml', '--inactive', `instance-${guest.id}`))
    .replaceAll(String(guest.id), stray)
    .replaceAll(/<disk [\s\S]*?<\/disk>/g, '')
    .replaceAll(/<interface [\s\S]*?<\/interface>/g, '');
  await onHost('sh', '-c', 'printf %s "$1" >/tmp/stray.xml', 'sh', xml);
  await virsh('define', '/tmp/stray.xml');
  await onHost('rm', '/tmp/stray.xml');
  await foundAndRepaired(stray, 'orphan guestStray', { scope: 'host', id: guest.hostId });
  expect(await virsh('list', '--all', '--uuid')).not.toContain(stray);
});

test('an image that was created with rbd is put into the trash', async () => {
  const stray = crypto.randomUUID();
  const root = await admin.call<Resource>('GET', `/v1/volumes/${String(guest.rootVolumeId)}`);
  const pool = await admin.call<Resource>('GET', `/v1/storage-pools/${String(root.poolId)}`);
  const rbd = (...argv: string[]): Promise<string> =>
    onHost(
      ...['rbd', '--id', `belay-${String(guest.hostId)}`],
      ...['--conf', `/etc/belay/ceph/${cloud.storageCluster.id}.conf`, ...argv],
    );
  await rbd('create', '--size', '16M', `${String(pool.pool)}/volume-${stray}`);
  await foundAndRepaired(stray, 'orphan volumeStray', { scope: 'storagePool', id: pool.id });
  const trash = JSON.parse(await rbd('trash', 'ls', String(pool.pool), '--format', 'json')) as {
    id: string;
    name: string;
  }[];
  const thrown = trash.find(({ name }) => name === `volume-${stray}`);
  expect(thrown).toBeDefined();
  await rbd('trash', 'rm', '--force', `${String(pool.pool)}/${thrown?.id}`);
});

test('a port that was removed, and a rule that was changed, with ovn-nbctl are written anew', async () => {
  const { items } = await tenant.call<{ items: Resource[] }>(
    'GET',
    `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${guest.id}"`)}`,
  );
  const port = items[0];
  await nbctl('lsp-del', String(port?.id));
  await foundAndRepaired(String(port?.id), 'missing portRows', { scope: 'network' });
  expect(await nbctl('lsp-list', switchName(String(port?.networkId)))).toContain(String(port?.id));
  const [groupId] = (port?.securityGroupIds ?? []) as string[];
  const rules = await nbctl('acl-list', securityGroupName(String(groupId)));
  await nbctl('acl-del', securityGroupName(String(groupId)));
  await foundAndRepaired(String(groupId), 'drifted groupRows', { scope: 'network' });
  expect(await nbctl('acl-list', securityGroupName(String(groupId)))).toBe(rules);
  const group = networkGroup(String(port?.networkId));
  await nbctl('acl-add', group, 'to-lport', '30000', `outport == @${group} && ip`, 'allow');
  await foundAndRepaired(String(port?.networkId), 'drifted networkRows', { scope: 'network' });
});
