import { expect, test } from 'vitest';
import { refusedBody } from '../../../acceptance/records.ts';
import { kindOf } from '../../../model/kinds.ts';

test('of what another action takes the trail of refusals keeps the names alone', () => {
  const targets = { ids: ['00000000-0000-4000-8000-000000000001'] };
  const body = { action: 'storageCluster.update', input: { adminKey: 'secret', labels: { a: 'b' } }, targets };
  expect(refusedBody(kindOf('operation'), 'runMany', body)).toEqual({
    action: 'storageCluster.update',
    input: { adminKey: '***', labels: '***' },
    targets,
  });
  expect(refusedBody(kindOf('network'), 'update', { labels: { a: 'b' } })).toEqual({ labels: { a: 'b' } });
});
