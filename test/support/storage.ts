/** What storage promises its users, whatever a pool is made of, on simulated hosts and on real ones: each of the two has this as its test. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { Api, Resource } from '../../lab/api.ts';
import { type Cloud, instanceBody, make } from '../../lab/provision.ts';
import { type PoolType, poolTypeNames, poolTypes } from '../../model/storage/poolTypes.ts';

export interface StoragePlace {
  admin: Api;
  cloud: Cloud;
  /** How a pool of each type is asked for. */
  bodies: Record<PoolType, Record<string, unknown>>;
  /** What a pool of that type is here, where that is not what its name says. */
  standsFor?: Partial<Record<PoolType, string>>;
  /** Waits until an instance has said that often that it has booted; answers its last words to that. */
  booted?(instanceId: string, times: number): Promise<string>;
  /** What a command in the guest says, which has to succeed. */
  inside?(instanceId: string, command: string): Promise<string>;
  /** What is left of a pool of that type once it is deleted. */
  left(type: PoolType): Promise<string[]>;
}

interface Volume {
  id: string;
  state: string;
  sizeGib: number;
  poolId: string;
  instanceId: string | null;
}

/** A guest boots four times in one test, on a machine that may have much else to do. */
const patienceMs = 600_000;

const notSupported = { problem: { code: 'NOT_SUPPORTED' } };

/** Declares the tests. */
export function storageSuite({ admin, cloud, bodies, standsFor = {}, ...place }: StoragePlace): void {
  const { tenant } = cloud;
  const types = poolTypeNames.map((type) => ({ type, name: type + (standsFor[type] ? ` (${standsFor[type]})` : '') }));

  describe.each(types)('storage in a pool of type $name', ({ type }) => {
    const { can } = poolTypes[type];
    const storageClass = `suite-${type.toLowerCase()}`;
    let pool: Resource & { totalGib: number };
    let volumeType: { id: string };
    /** One that runs, and a volume that it has, from one test to the next: each boot costs a real host seconds. */
    let id: string;
    let data: Resource;

    // Tenants are not told of pools.
    const volume = (id: string) => admin.call<Volume>('GET', `/v1/volumes/${id}`);
    const on =
      (plural: string) =>
      (id: string, action: string, input: Record<string, unknown> = {}) =>
        tenant.done('POST', `/v1/${plural}/${id}/actions/${action}`, input);
    const act = on('volumes');
    const control = on('instances');
    const newVolume = (name: string, more: Record<string, unknown> = {}) =>
      make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: volumeType.id, ...more });
    const snap = (name: string, volumeId: string) => make(tenant, 'snapshots', { name, volumeId });
    const deploy = (name: string, more: Record<string, unknown> = {}) =>
      make(
        tenant,
        'instances',
        instanceBody(cloud, name, { rootVolume: { volumeTypeId: volumeType.id, sizeGib: 1 }, ...more }),
      );
    const remove = (plural: string, id: string) => tenant.done('DELETE', `/v1/${plural}/${id}`);
    async function end(plural: 'volumes' | 'instances', id: string): Promise<void> {
      await remove(plural, id);
      await on(plural)(id, 'expunge');
    }

    /** Sets `disk` to a disk of the guest, which finds it by its serial number, a moment after it was plugged in. */
    const find = (volumeId: string): string =>
      `disk=; until [ "$disk" ]; do for d in /sys/block/vd*; do
         [ "$(cat $d/serial)" = ${volumeId.replaceAll('-', '').slice(0, 20)} ] && disk=\${d##*/}; done; done; `;
    async function write(instanceId: string, volumeId: string, word: string): Promise<void> {
      await place.inside?.(
        instanceId,
        `${find(volumeId)} echo ${word} | dd of=/dev/$disk bs=512 count=1 conv=sync,fsync`,
      );
    }
    async function holds(instanceId: string, volumeId: string, word: string): Promise<void> {
      // Past what the guest remembers of it.
      const read = `${find(volumeId)} echo 3 >/proc/sys/vm/drop_caches; head -c ${word.length} /dev/$disk`;
      if (place.inside) expect(await place.inside(instanceId, read)).toBe(word);
    }
    /** Like a power cut, once all that the guest has written is on its disks. */
    async function turnOff(instanceId: string): Promise<void> {
      await place.inside?.(instanceId, 'sync');
      await control(instanceId, 'stop', { mode: 'force' });
    }
    async function hasGib(instanceId: string, volumeId: string, sizeGib: number): Promise<void> {
      const sectors = place.inside && (await place.inside(instanceId, `${find(volumeId)} cat /sys/block/$disk/size`));
      if (sectors !== undefined) expect(Number(sectors) / 2 ** 21).toBe(sizeGib);
    }

    beforeAll(async () => {
      const body = { name: `suite ${type}`, type, storageClass, clusterIds: [cloud.cluster.id], overprovision: 100 };
      const { id } = await make(admin, 'storage-pools', { ...body, ...bodies[type] });
      pool = await admin.call('GET', `/v1/storage-pools/${id}`);
      volumeType = await admin.call('POST', '/v1/volume-types', {
        name: `suite ${type}`,
        storageClass,
        visibility: 'public',
      });
    });

    test('a pool is ready, and knows its room', () => {
      expect(pool.state).toBe('ready');
      expect(pool.totalGib).toBeGreaterThan(0);
    });

    test('a volume is snapped, grown, reverted, cloned, thrown away and brought back', async () => {
      const { id } = await newVolume('kept', { sizeGib: 1 });
      expect(await volume(id)).toMatchObject({ state: 'ready', poolId: pool.id });
      const snapshot = await snap('before', id);
      await act(id, 'resize', { sizeGib: 3 });
      await act(id, 'revert', { snapshotId: snapshot.id });
      expect((await volume(id)).sizeGib).toBe(1);
      const clone = await newVolume('clone', { source: { snapshotId: snapshot.id } });
      expect((await volume(clone.id)).poolId).toBe(pool.id);
      const elsewhere = { volumeTypeId: cloud.volumeTypes[0]?.id, source: { snapshotId: snapshot.id } };
      const across = newVolume('across', elsewhere);
      if (can.cloneAcross) await end('volumes', (await across).id);
      else
        await expect(across).rejects.toMatchObject({
          problem: { code: 'INVALID_ARGUMENT', violations: [{ field: 'volumeTypeId' }] },
        });
      await remove('volumes', clone.id);
      await act(clone.id, 'recover');
      await end('volumes', clone.id);
      await remove('snapshots', snapshot.id);
      await end('volumes', id);
    });

    test('an instance boots from it, takes a volume, sees it grow, and goes to another host with it', async () => {
      ({ id } = await deploy(`suite-${type}`));
      const { rootVolumeId, hostId } = await admin.call('GET', `/v1/instances/${id}`);
      expect((await volume(String(rootVolumeId))).poolId).toBe(pool.id);
      await place.booted?.(id, 1);
      data = await newVolume('data', { sizeGib: 1 });
      await act(data.id, 'attach', { instanceId: id });
      await write(id, data.id, 'before');
      await act(data.id, 'resize', { sizeGib: 2 });
      await hasGib(id, data.id, 2);
      // Of three that are taken while the guest goes on, the one in the middle goes first.
      const taken: Resource[] = [];
      for (const word of ['first', 'second', 'third']) {
        await write(id, data.id, word);
        taken.push(await snap(word, data.id));
      }
      await write(id, data.id, 'before');
      const [first, second, third] = taken as [Resource, Resource, Resource];
      await remove('snapshots', second.id);
      await holds(id, data.id, 'before');
      for (const [snapshot, word] of [
        [first, 'first'],
        [third, 'third'],
      ] as const) {
        const clone = await newVolume(word, { source: { snapshotId: snapshot.id } });
        await act(clone.id, 'attach', { instanceId: id });
        await holds(id, clone.id, word);
        await act(clone.id, 'detach');
        await end('volumes', clone.id);
      }
      const moved = admin.done('POST', `/v1/instances/${id}/actions/migrate`, {});
      if (can.liveMove) {
        await moved;
        expect((await admin.call('GET', `/v1/instances/${id}`)).hostId).not.toBe(hostId);
      } else await expect(moved).rejects.toMatchObject(notSupported);
      await holds(id, data.id, 'before');
      for (const snapshot of [first, third]) await remove('snapshots', snapshot.id);
      await write(id, data.id, 'behind');
      await holds(id, data.id, 'behind');
      await act(data.id, 'detach');
      await act(data.id, 'attach', { instanceId: id });
      await holds(id, data.id, 'behind');
    });

    test(
      'what a guest had written is there again after a revert, and in what is made from the snapshot',
      async () => {
        const { rootVolumeId } = await tenant.call<{ rootVolumeId: string }>('GET', `/v1/instances/${id}`);
        await write(id, data.id, 'before');
        await turnOff(id);
        const snapshot = await snap('data', data.id);
        const ofRoot = await snap('root', rootVolumeId);
        await control(id, 'start');
        expect((await place.booted?.(id, 2)) ?? 'boots=2').toContain('boots=2');
        await holds(id, data.id, 'before');
        await write(id, data.id, 'behind');
        await turnOff(id);
        await act(data.id, 'revert', { snapshotId: snapshot.id });
        await act(rootVolumeId, 'revert', { snapshotId: ofRoot.id });
        await control(id, 'start');
        // It counts on from where it was when the snapshot was taken.
        expect((await place.booted?.(id, 3)) ?? 'boots=2').toContain('boots=2');
        await holds(id, data.id, 'before');
        const clone = await newVolume('clone', { source: { snapshotId: snapshot.id } });
        const twin = await deploy(`suite-${type}-twin`, { source: { snapshotId: ofRoot.id } });
        expect((await place.booted?.(twin.id, 1)) ?? 'boots=2').toContain('boots=2');
        await act(clone.id, 'attach', { instanceId: twin.id });
        await holds(twin.id, clone.id, 'before');
        await write(twin.id, clone.id, 'behind');
        await holds(id, data.id, 'before');
        for (const one of [data, clone]) await act(one.id, 'detach');
        for (const one of [snapshot, ofRoot]) await remove('snapshots', one.id);
        await end('instances', id);
        await end('instances', twin.id);
        for (const one of [data, clone]) await end('volumes', one.id);
      },
      patienceMs,
    );

    test('a pool goes with all that was in it, and nothing is left', async () => {
      await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
      expect(await place.left(type)).toEqual([]);
    });
  });
}
