/** A worker that dies amid the run of a schedule: the run goes on, each target is done once, and nothing is left over. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OperationView, Resource } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { joinCloud, startSimulatedCloud } from '../support/cloud.ts';
import { triggered, withTemporal } from '../support/maintenance.ts';
import { describe as inWords } from '../support/persistent.ts';
import { setRules } from '../support/rollback.ts';
import { changes } from '../support/world.ts';

const { address, stop } = await startSimulatedCloud({ hosts: 4, faultInjection: true });
afterAll(stop, 120_000);
const { admin, cloud, picture, wrong, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;

/** The first deploy leaves a cached image in the pool, on purpose. */
beforeAll(async () => removeInstance((await deploy('first')).id));

const list = async (plural: string, filter: string): Promise<Resource[]> =>
  (await admin.call<{ items: Resource[] }>('GET', `/v1/${plural}?pageSize=500&filter=${encodeURIComponent(filter)}`))
    .items;

test.each([
  ['schedules.expand', 'schedule.runNow'],
  ['operations.acceptChild', 'schedule.runNow'],
  ['snapshots.describe', 'snapshot.create'],
  ['schedules.expire', 'schedule.runNow'],
])(
  'in %s',
  async (step, operationType) => {
    const before = await picture();
    const volumes = await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 }),
      ),
    );
    const plan = await make(tenant, 'schedules', {
      name: 'nightly',
      cron: '0 0 1 1 *',
      action: 'snapshot.create',
      targets: { ids: volumes.map(({ id }) => id) },
      retention: { keepLast: 1 },
      maxParallel: 2,
    });
    await tenant.done('POST', `/v1/schedules/${plan.id}/actions/runNow`, {});
    await setRules(admin, [{ operationType, step, fault: 'die', times: 1 }]);
    await withTemporal(address.temporalAddress, (temporal) => triggered(temporal, `schedule-${plan.id}`));
    await setRules(admin, []);
    const { lastOperationId } = await admin.call('GET', `/v1/schedules/${plan.id}`);
    const run: OperationView = await admin.settled(String(lastOperationId));
    expect(inWords(run)).toContain(' succeeded');
    expect(run.result).toEqual({ succeeded: 3, removed: 3, notRun: 0 });
    const children = await list('operations', `parentOperationId = "${run.id}"`);
    expect(children.map(({ type, state }) => `${type} ${state}`).sort()).toEqual([
      ...Array.from({ length: 3 }, () => 'snapshot.create succeeded'),
      ...Array.from({ length: 3 }, () => 'snapshot.delete succeeded'),
    ]);
    expect(await list('snapshots', `scheduleId = "${plan.id}"`)).toHaveLength(3);
    expect(await wrong()).toEqual([]);
    await tenant.done('DELETE', `/v1/schedules/${plan.id}`);
    for (const { id } of volumes) await tenant.done('DELETE', `/v1/volumes/${id}?cascade=true&expunge=true`);
    expect(changes(before, await picture())).toEqual([]);
  },
  300_000,
);
