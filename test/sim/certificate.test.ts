/** Certificates through the API: the key goes in with its certificate, and never comes out. */
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { Resource } from '../../lab/api.ts';
import { newCertificate, type WithKey } from '../support/certificates.ts';
import { joinCloud } from '../support/cloud.ts';
import { answer } from '../support/people.ts';

const address = inject('cloud');
const { cloud } = joinCloud(address);
const { tenant } = cloud;
const client = new pg.Client({ connectionString: address.databaseUrl });

let first: WithKey;
let next: WithKey;
let shop: Resource;
const path = (): string => `/v1/certificates/${shop.id}`;
const secrets = async (): Promise<unknown[]> =>
  (await client.query(`SELECT "ownerKind", field FROM "secret" WHERE "ownerId" = $1`, [shop.id])).rows;

beforeAll(async () => {
  await client.connect();
  [first, next] = await Promise.all([newCertificate('shop.example.org'), newCertificate('next.example.org')]);
  shop = await tenant.call('POST', '/v1/certificates', { name: 'shop', ...first });
});
afterAll(() => client.end());

test('are told with what they say of themselves, and without their key', async () => {
  expect(shop).toMatchObject({ domains: ['shop.example.org'], fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) });
  const texts = await Promise.all(
    [path(), '/v1/certificates', `/v1/audit-entries?filter=${encodeURIComponent(`resourceId = "${shop.id}"`)}`].map(
      async (asked) => (await tenant.raw('GET', asked)).text(),
    ),
  );
  expect(Object.keys(shop)).not.toContain('privateKey');
  const body = first.privateKey.split('\n')[1] ?? 'no key';
  for (const text of [JSON.stringify(shop), ...texts]) {
    expect(text).toContain(shop.id);
    expect(text).not.toContain(body);
  }
  expect(await secrets()).toEqual([{ ownerKind: 'certificate', field: 'privateKey' }]);
});

test.each<[string, () => Record<string, unknown>, string]>([
  ['without its key', () => ({ certificate: next.certificate }), 'privateKey'],
  ['by a key alone', () => ({ privateKey: next.privateKey }), 'certificate'],
  ['by a chain alone', () => ({ chain: next.chain }), 'certificate'],
  ['with the key of another', () => ({ certificate: next.certificate, privateKey: first.privateKey }), 'privateKey'],
])('are not replaced %s', async (_, body, field) => {
  const before = await tenant.call('GET', path());
  const refused = await answer(tenant, 'PATCH', path(), body());
  expect(refused).toMatchObject({ status: 422, code: 'INVALID_ARGUMENT', violations: [{ field }] });
  expect(await tenant.call('GET', path())).toEqual(before);
});

test('are renamed as they are, and replaced as a whole', async () => {
  expect(await tenant.call('PATCH', path(), { name: 'store' })).toMatchObject({
    name: 'store',
    fingerprint: shop.fingerprint,
    chain: shop.chain,
  });
  const { certificate, privateKey } = next;
  const replaced = await tenant.call('PATCH', path(), { certificate, privateKey });
  expect(replaced).toMatchObject({ domains: ['next.example.org'], chain: null });
  expect(replaced.fingerprint).not.toBe(shop.fingerprint);
});

test('take their key with them', async () => {
  await tenant.raw('DELETE', path());
  expect(await secrets()).toEqual([]);
});
