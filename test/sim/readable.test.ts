/** What an engineer reads in Temporal's list of runs. */
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { OperationView } from '../../lab/api.ts';
import { belayTarget } from '../../temporal/search-attributes.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { cloud, deploy, removeInstance } = joinCloud(address);
let connection: Connection;

beforeAll(async () => {
  connection = await Connection.connect({ address: address.temporalAddress });
});
afterAll(() => connection.close());

const titleOf = async (id: string): Promise<unknown> => {
  const { staticSummary } = await new Client({ connection, namespace: 'belay' }).workflow.getHandle(id).describe();
  return staticSummary();
};

test('a run is titled by verb, kind and name of its target, whoever started it', async () => {
  const { tenant } = cloud;
  const { id } = await deploy('title-1', { labels: { secret: 'not-in-temporal' } });
  const act = (verb: string): Promise<OperationView> =>
    tenant.call('POST', `/v1/instances/${id}/actions/${verb}?onBusy=queue`, {});
  // The second waits for the first, so the dispatcher starts it.
  const stop = await act('stop');
  const start = await act('start');
  await tenant.settled(start.id);
  expect([await titleOf(stop.id), await titleOf(start.id)]).toEqual([
    'stop instance title-1',
    'start instance title-1',
  ]);

  const runs: string[] = [];
  const client = new Client({ connection, namespace: 'belay' });
  await expect
    .poll(async () => {
      runs.length = 0;
      for await (const run of client.workflow.list({ query: `BelayTarget = "instance title-1"` })) {
        runs.push(run.workflowId);
        expect(run.typedSearchAttributes.get(belayTarget)).toBe('instance title-1');
      }
      return runs;
    })
    .toEqual(expect.arrayContaining([stop.id, start.id]));
  await removeInstance(id);
});
