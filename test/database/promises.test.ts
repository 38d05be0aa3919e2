/** A dry run promises nothing that would fail at once, as far as the records tell; and what could never do anything is refused. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemCaller } from '../../acceptance/caller.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
beforeEach(async () => {
  await scene.reset();
  await stage(`UPDATE "host" SET state = 'active', connection = 'connected', bmc = '{}' WHERE id = $1`, [host()]);
  await stage(
    `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, gen_random_uuid(), 1, 128) ON CONFLICT DO NOTHING`,
    [scene.ids.instance, host()],
  );
  await stage(`UPDATE "instance" SET state = 'running', "hostId" = $2 WHERE id = $1`, [scene.ids.instance, host()]);
});
afterAll(() => scene?.stop());

const host = (): string => String(scene.ids.host);
const stage = (text: string, values: unknown[]): Promise<unknown> => scene.stage.query(text, values);
const leave = async (): Promise<void> => {
  await stage(`UPDATE "instance" SET "hostId" = NULL, state = 'stopped' WHERE "hostId" = $1`, [host()]);
  await stage(`DELETE FROM "hostClaim" WHERE "hostId" = $1`, [host()]);
};

async function warningsOf(type: string, body: Record<string, unknown>): Promise<string> {
  const outcome = await scene.accept(type, { body, dryRun: true });
  return (JSON.parse(outcome.body) as { warnings: string[] }).warnings.join('\n');
}

describe('a dry run warns', () => {
  test('of guests that a host is to be emptied of, and may neither migrate nor stop', async () => {
    for (const type of ['host.enterMaintenance', 'host.maintain', 'cluster.rollingMaintenance']) {
      const hook = type === 'host.enterMaintenance' ? {} : { hook: 'none' };
      expect(await warningsOf(type, { instances: 'refuse', ...hook }), type).toContain('it would fail now');
      expect(await warningsOf(type, { instances: 'stop', ...hook }), type).not.toContain('it would fail now');
    }
    await leave();
    expect(await warningsOf('host.enterMaintenance', { instances: 'refuse' })).toBe('');
  });

  test('of a host that is to be switched off while it is in use', async () => {
    expect(await warningsOf('host.power', { command: 'off' })).toContain('instances are on host');
    expect(await warningsOf('host.power', { command: 'on' })).toBe('');
    expect(await warningsOf('host.power', { command: 'off', force: true })).toBe('');
    await leave();
    expect(await warningsOf('host.power', { command: 'cycle' })).toContain('is in use, and would be missed');
    await stage(`UPDATE "host" SET state = 'maintenance' WHERE id = $1`, [host()]);
    expect(await warningsOf('host.power', { command: 'off' })).toBe('');
  });

  test('of an instance that is to be started elsewhere while its host has not failed', async () => {
    expect(await warningsOf('instance.restartElsewhere', {})).toContain('has not failed');
    await stage(`UPDATE "host" SET state = 'fenced', "fencedAt" = now() WHERE id = $1`, [host()]);
    expect(await warningsOf('instance.restartElsewhere', {})).toBe('');
  });
});

describe('an end that is over', () => {
  const at = (seconds: number): string => new Date(Date.now() + seconds * 1_000).toISOString();
  const roll = (notAfter: string) =>
    scene.accept('cluster.rollingMaintenance', { body: { hook: 'none', instances: 'stop', notAfter }, dryRun: true });

  test('is refused by what is to be done until then', async () => {
    await expect(roll(at(-60))).rejects.toThrow('notAfter must be in the future');
    expect((await roll(at(3_600))).status).toBeLessThan(300);
  });

  test('is refused as the fixed input of what runs later than that, or again and again', async () => {
    const create = (times: Record<string, unknown>, notAfter: string) =>
      scene.accept('schedule.create', {
        body: {
          name: 'evening',
          projectId: null,
          action: 'cluster.rollingMaintenance',
          input: { hook: 'none', notAfter },
          targets: { ids: [scene.ids.cluster] },
          ...times,
        },
        caller: systemCaller(),
        dryRun: true,
      });
    await expect(create({ cron: '@daily' }, at(3_600))).rejects.toThrow('again and again');
    await expect(create({ at: at(7_200) }, at(3_600))).rejects.toThrow('must be later than at');
    expect((await create({ at: at(3_600) }, at(7_200))).status).toBeLessThan(300);
  });
});
