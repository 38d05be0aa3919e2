/** What is asked of an operation: a dry run only looks, and a revision is looked at. */
import { expect, inject, test } from 'vitest';
import { ApiError, type OperationView } from '../../lab/api.ts';
import { instanceBody } from '../../lab/provision.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';

const address = inject('cloud');
const { admin, cloud, wrong } = joinCloud(address);
const { tenant } = cloud;

const codeOf = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'accepted',
    (error: unknown) => {
      if (error instanceof ApiError) return error.problem.code;
      throw error;
    },
  );

test('a dry run of a cancel cancels nothing, one at an old revision neither, and one that means it does', async () => {
  const release = await hold(address.simulatorUrl, 'rbd.ensureClone');
  try {
    const { id } = await tenant.call<OperationView>('POST', '/v1/instances', instanceBody(cloud, 'asked'));
    const cancel = (query: string, headers = {}): Promise<OperationView> =>
      tenant.call('POST', `/v1/operations/${id}/actions/cancel${query}`, undefined, headers);
    expect(await cancel('?dryRun=true')).toMatchObject({ steps: [], quotaDelta: {}, warnings: [] });
    expect(await codeOf(cancel('', { 'if-match': '"999999"' }))).toBe('REVISION_MISMATCH');
    expect(await tenant.call('GET', `/v1/operations/${id}`)).toMatchObject({ cancelRequestedAt: null });
    await cancel('');
    await release();
    expect(await admin.settled(id)).toMatchObject({ state: 'cancelled' });
    // What has ended can not be cancelled, and a dry run says so.
    expect(await codeOf(cancel('?dryRun=true'))).toBe('INVALID_STATE');
  } finally {
    await release();
  }
  expect(await wrong()).toEqual([]);
});
