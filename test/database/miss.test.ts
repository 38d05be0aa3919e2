/** What a step asks for and does not find is NOT_FOUND, however it asks. */
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failureOf } from '../../activities/failure.ts';
import { lockOperation } from '../../activities/platform/operationRecord.ts';
import { transaction } from '../../database/database.ts';
import { startOf } from '../../database/queue.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene.stop());

const id = crypto.randomUUID();

test.each<[string, () => Promise<unknown>, string]>([
  [
    'a read of Prisma',
    () => scene.database.prisma.instance.findUniqueOrThrow({ where: { id } }),
    'there is no such instance',
  ],
  [
    'a write of Prisma',
    () => scene.database.prisma.storageCluster.update({ where: { id }, data: { description: 'gone' } }),
    'there is no such storageCluster',
  ],
  ['a start', () => startOf(scene.database, id), `there is no operation ${id}`],
  [
    'a step of the saga',
    () => transaction(scene.database, (tx) => lockOperation(tx, id)),
    `there is no operation ${id}`,
  ],
])('%s that finds nothing ends the operation, and is not tried again', async (_, ask, message) => {
  const failure = failureOf(await ask().catch((error: unknown) => error));
  expect(failure).toBeInstanceOf(ApplicationFailure);
  expect(failure).toMatchObject({ type: 'NOT_FOUND', nonRetryable: true, message });
});

test('of an error that is none of ours nothing is said but that it may pass', () => {
  expect(failureOf(new Error('something broke'))).toMatchObject({ type: 'INTERNAL', nonRetryable: false });
});
