/** A real host that is gone for good, with guests, a disk and operations under way on it; and what its power does when it comes back. */
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { type Cloud, instanceBody, make } from '../../lab/provision.ts';
import type { LabInventory } from '../../lab/real/inventory.ts';
import type { Lab } from '../../lab/real/lab.ts';
import { ovnArguments } from '../../lab/real/ovn.ts';
import { must } from '../../lab/real/processes.ts';
import { realUnderlay } from '../../lab/underlay.ts';
import { inStep, refusal } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';
import { isSuspended } from '../support/suspend.ts';
import type { GuestCommand } from './guest.ts';

export interface DeadHostLab {
  admin: Api;
  tenant: Api;
  lab: Lab;
  cloud: Cloud;
  /** In the order of their numbers; the third is another one after this. */
  hosts: Resource[];
  /** Process id of the host worker. */
  workerPid(): number;
  look(): Promise<LabInventory>;
  /** Moves what other tests have on the host to others. */
  vacate(hostId: string): Promise<void>;
  ready(instanceId: string, boots: number): Promise<string>;
  sh(instanceId: string, command: string): Promise<GuestCommand>;
  timed<T>(what: string, work: Promise<T>): Promise<T>;
  expunge(plural: 'instances' | 'volumes', id: string): Promise<void>;
}

const number = 3;
/** What waits for hosts, leases and locks of the dead takes minutes on a machine that does much else. */
const limitMs = 900_000;
/** What `rbd` ends with when Ceph does not know its user. */
const EACCES = 13;

export function deadHost(of: () => DeadHostLab): void {
  describe('a host that is gone for good', { timeout: limitMs }, () => {
    /** Has a data volume, and is being given another when its host dies. */
    let keeper: Resource;
    /** Is on its way to another host when its host dies. */
    let mover: Resource;
    let data: Resource;
    let second: Resource;
    let attaching: OperationView;
    let moving: OperationView;
    let deadId: string;

    const get = (plural: string, id: string): Promise<Resource> => of().admin.call('GET', `/v1/${plural}/${id}`);
    const operation = (id: string): Promise<OperationView> => of().admin.call('GET', `/v1/operations/${id}`);
    const act = (plural: string, id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
      of().tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, body);
    const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
      while (!(await condition())) await setTimeout(100);
    };
    const path = (): string => `/v1/hosts/${deadId}`;
    const numberOf = (hostId: unknown): number => of().hosts.findIndex(({ id }) => id === hostId) + 1;

    /** Where libvirt knows the guest, by the host's name, with its state there. */
    const placesOf = ({ hosts }: LabInventory, { id }: Resource): [string, string][] =>
      Object.entries(hosts).flatMap(([name, host]) =>
        (host?.domains ?? []).filter((domain) => domain.id === id).map(({ state }): [string, string] => [name, state]),
      );

    /** Which of its disks the guest has under the name of that volume. */
    const deviceOf = ({ id }: Resource): string =>
      `$(for s in /sys/block/*/serial; do [ "$(cat $s)" = ${id.replaceAll('-', '').slice(0, 20)} ] && echo /dev/$(basename $(dirname $s)); done)`;

    /** `rbd` on a host, as the user of a host, with what that has of the storage. */
    const rbd = (host: number, userOf: string, ...argv: string[]) => {
      const configuration = `/etc/belay/ceph/${of().cloud.storageCluster.id}.conf`;
      return of().lab.execHost(host, ['rbd', '--id', `belay-${userOf}`, '--conf', configuration, ...argv], {
        timeoutMs: 30_000,
      });
    };

    /** The addresses of those who have the volume open. */
    async function watchersOf(volumeId: unknown): Promise<string[]> {
      const volume = await get('volumes', String(volumeId));
      const { pool } = await get('storage-pools', String(volume.poolId));
      const { stdout, stderr } = await rbd(
        1,
        String(of().hosts[0]?.id),
        ...['status', `${pool}/volume-${volume.id}`, '--format', 'json'],
      );
      if (stdout === '') throw new Error(stderr);
      const { watchers } = JSON.parse(stdout) as { watchers: { address: string }[] };
      return [...new Set(watchers.map(({ address }) => address.replace(/:\d+\/\d+$/, '')))].sort();
    }

    /** The chassis that OVN has a guest's port at. */
    async function chassisOf({ id }: Resource): Promise<string[]> {
      const { admin, lab } = of();
      const { items } = await admin.call<{ items: Resource[] }>(
        'GET',
        `/v1/network-interfaces?filter=${encodeURIComponent(`instanceId = "${id}"`)}`,
      );
      const southbound = ['ovn-sbctl', ...ovnArguments(lab.ovn), `--db=${lab.ovn.sbRemote}`, '--bare'];
      const row = async (...where: string[]): Promise<string> => (await must([...southbound, ...where])).trim();
      const chassis = await row('--columns=chassis', 'find', 'Port_Binding', `logical_port=${items[0]?.id}`);
      return chassis === '' ? [] : [await row('--columns=name', 'list', 'Chassis', chassis)];
    }

    const addressOf = (hostId: unknown): string => String(of().lab.hosts[numberOf(hostId) - 1]?.address);

    test('holds its guests and disks, and its operations get stuck, until an operator says that it is dead', async () => {
      const { admin, tenant, lab, cloud, hosts, workerPid, vacate, ready, sh, timed } = of();
      deadId = String(hosts[number - 1]?.id);
      await vacate(deadId);
      const there = { projectId: cloud.project.id, requestedHostId: deadId };
      keeper = await make(admin, 'instances', instanceBody(cloud, 'keeper', there));
      mover = await make(admin, 'instances', instanceBody(cloud, 'mover', there));
      const volume = (name: string): Promise<Resource> =>
        make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 });
      data = await volume('data');
      second = await volume('second');
      await ready(keeper.id, 1);
      await ready(mover.id, 1);
      await act('volumes', data.id, 'attach', { instanceId: keeper.id });
      const disk = deviceOf(data);
      const written = await sh(
        keeper.id,
        `while [ -z "${disk}" ]; do sleep 0.2; done; d=${disk}; mkfs.ext4 -q $d && mkdir -p /data && mount $d /data && echo precious >/data/proof && sync`,
      );
      expect(written).toEqual({ code: 0, output: '' });

      // It has so much in its memory that it is on its way for as long as it takes; where it runs on meanwhile, it writes it anew all the time.
      await sh(
        mover.id,
        '( n=0; while :; do n=$((n+1)); yes $n | head -c 33554432 >/run/dirty; : >/run/dirtied; done ) >/dev/null 2>&1 </dev/null &',
      );
      await until(async () => (await sh(mover.id, 'ls /run/dirtied')).code === 0);
      moving = await admin.call('POST', `/v1/instances/${mover.id}/actions/migrate`, {
        bandwidthBytesPerSec: 1_048_576,
      });
      await until(async () => (await operation(moving.id)).progress > 0);
      // The worker sends what plugs the disk in when nobody is there any more to say whether it was.
      await setRules(admin, [
        { targetId: second.id, step: 'volumes.plug', fault: 'suspend', message: 'domain.ensureDisk' },
      ]);
      attaching = await tenant.call('POST', `/v1/volumes/${second.id}/actions/attach`, { instanceId: keeper.id });
      await until(() => isSuspended(workerPid()));
      expect(inStep('hypervisor.migrate')(await operation(moving.id))).toBe(true);
      await lab.crashHost(number);
      process.kill(workerPid(), 'SIGCONT');
      await setRules(admin, []);
      await timed(
        'host found gone',
        until(async () => (await get('hosts', deadId)).connection === 'disconnected'),
      );

      const stuck = await timed(
        'operations stuck',
        Promise.all([attaching, moving].map(({ id }) => admin.settled(id))),
      );
      expect(stuck.map(({ state, error }) => [state, error?.code])).toEqual([
        ['stuck', 'HOST_UNREACHABLE'],
        ['stuck', 'HOST_UNREACHABLE'],
      ]);

      expect(await refusal(admin.call('DELETE', path()))).toBe('409 HAS_DEPENDENTS');
      expect(await refusal(admin.call('DELETE', `${path()}?force=true`))).toBe('409 HAS_DEPENDENTS');
      expect(await refusal(admin.call('DELETE', `${path()}?confirmDead=true`))).toBe('422 INVALID_ARGUMENT');
      // Who would start it elsewhere waits behind what is stuck.
      const start = await tenant.call<OperationView>('POST', `/v1/instances/${keeper.id}/actions/start`, {});
      expect((await operation(start.id)).state).toBe('queued');
      await tenant.call('POST', `/v1/operations/${start.id}/actions/cancel`, {});
      const { rootVolumeId } = await get('instances', keeper.id);
      for (const volumeId of [rootVolumeId, data.id])
        expect((await watchersOf(volumeId)).filter((address) => address !== addressOf(deadId))).toEqual([]);
      expect(await get('instances', keeper.id)).toMatchObject({ state: 'running', hostId: deadId });
      expect(await get('volumes', data.id)).toMatchObject({ state: 'ready', instanceId: keeper.id });
    });

    test('gives its guests and their disks to other hosts once it is declared dead, and its operations end', async () => {
      const { admin, look, ready, sh, timed } = of();
      await timed('dead host deleted', admin.done('DELETE', `${path()}?force=true&confirmDead=true`));
      const ended = await Promise.all([attaching, moving].map(({ id }) => admin.settled(id)));
      expect(ended.map(({ state, error }) => [state, error?.code])).toEqual([
        ['failed', 'HOST_UNREACHABLE'],
        ['failed', 'HOST_UNREACHABLE'],
      ]);
      for (const { id } of [keeper, mover])
        expect(await get('instances', id)).toMatchObject({ state: 'stopped', stateReason: 'hostFailed', hostId: null });
      const left = await look();
      expect([placesOf(left, keeper), placesOf(left, mover)]).toEqual([[], []]);
      expect(left.ceph.users).not.toContain(`client.belay-${deadId}`);
      expect(left.chassis).not.toContain(deadId);

      for (const guest of [keeper, mover]) await timed('start elsewhere', act('instances', guest.id, 'start'));
      for (const guest of [keeper, mover]) await ready(guest.id, 2);
      const { output } = await sh(keeper.id, `mkdir -p /data && mount ${deviceOf(data)} /data && cat /data/proof`);
      expect(output).toBe('precious\n');
      await act('volumes', second.id, 'attach', { instanceId: keeper.id });
    });

    test('changes nothing when its power comes back: its guests do not run, its key opens no disk, its switch has no port', async () => {
      const { lab, cloud, look, sh, timed } = of();
      const before = await Promise.all([keeper, mover].map(({ id }) => get('instances', id)));
      await timed('power on', lab.startHost(number));
      await until(async () => (await look()).hosts.host3 !== null);
      const found = await look();
      for (const [index, guest] of [keeper, mover].entries())
        expect(placesOf(found, guest).sort()).toEqual(
          [
            [`host${numberOf(before[index]?.hostId)}`, 'running'],
            ['host3', 'off'],
          ].sort(),
        );
      expect(found.hosts.host3?.ports).toEqual([]);

      const pool = String(cloud.pools[0]?.pool);
      const living = String(of().hosts[0]?.id);
      expect((await rbd(1, living, 'ls', pool)).code).toBe(0);
      const refused = await rbd(number, deadId, 'ls', pool);
      expect([refused.code, refused.stdout]).toEqual([EACCES, '']);
      for (const { id } of [keeper, mover]) {
        const started = await lab.execHost(number, ['virsh', '-c', 'qemu:///system', 'start', `instance-${id}`]);
        expect(started.stderr).toMatch(/"rbd".*error connecting: Permission denied/);
      }
      // Its switch reports to OVN again, under its old name; what matters is that OVN gives it nothing, whatever is plugged in there.
      for (const [index, { id, rootVolumeId, hostId }] of before.entries()) {
        expect(await get('instances', id)).toMatchObject({ state: 'running', hostId });
        expect(await chassisOf({ id } as Resource)).toEqual([hostId]);
        for (const volumeId of index === 0 ? [rootVolumeId, data.id, second.id] : [rootVolumeId])
          expect(await watchersOf(volumeId)).toEqual([addressOf(hostId)]);
      }
      expect((await sh(keeper.id, 'cat /data/proof')).output).toBe('precious\n');
    });

    test('is added again as another host, without anything of its life before, and works', async () => {
      const { admin, lab, cloud, hosts, look, sh, timed, expunge } = of();
      const body = { clusterId: cloud.cluster.id, ...realUnderlay(lab).hosts[number - 1] };
      const added = await timed('host added again', make(admin, 'hosts', body));
      hosts[number - 1] = added;
      expect(added).toMatchObject({ state: 'active', connection: 'connected' });
      expect(added.id).not.toBe(deadId);
      const found = await look();
      expect(found.hosts.host3).toMatchObject({ domains: [], ports: [] });
      const names = hosts.map(({ id }) => id).sort();
      await until(async () => isDeepStrictEqual((await look()).chassis, names));
      expect(found.ceph.users).toEqual(hosts.map(({ id }) => `client.belay-${id}`).sort());

      for (const { id } of [keeper, mover])
        await timed(
          'migration to the host that came back',
          admin.done('POST', `/v1/instances/${id}/actions/migrate`, { hostId: added.id }),
        );
      expect((await sh(keeper.id, 'cat /data/proof')).output).toBe('precious\n');
      expect(await watchersOf(data.id)).toEqual([addressOf(added.id)]);
      for (const { id } of [keeper, mover]) {
        expect(placesOf(await look(), { id } as Resource)).toEqual([['host3', 'running']]);
        await expunge('instances', id);
      }
      for (const { id } of [data, second]) await expunge('volumes', id);
    });
  });
}
