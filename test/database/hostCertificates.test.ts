/** A host's certificate: the same one until its last third, or until the host has another address; then the next, without being asked. */
import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { renewHostCertificates } from '../../activities/platform/certificates.ts';
import { hostAuthority, hostCertificate } from '../../activities/platform/credentials.ts';
import { rowsOf } from '../../database/database.ts';
import { writeSecret } from '../../database/secrets.ts';
import { issueCertificate } from '../../runtime/certificate.ts';
import { log } from '../../runtime/log.ts';
import { type Scene, setScene } from '../support/scene.ts';

const silent = log.child({}, { level: 'silent' });
let scene: Scene;
let hostId: string;
beforeAll(async () => {
  scene = await setScene();
  hostId = scene.ids.host ?? '';
  // Secrets belong to what has its id as this kind.
  await scene.stage.query(`UPDATE "identity" SET kind = 'host' WHERE id = $1`, [hostId]);
});
afterAll(() => scene?.stop());
beforeEach(() => scene.setFor('host.connect'));

/** As if the host had been added long ago: of its certificate, which lasted little more than an hour, a quarter of an hour is left. */
async function age(): Promise<string> {
  const { certificate, key } = await issueCertificate(hostId, [hostId], await hostAuthority(scene.database), {
    days: 0.01,
  });
  const owner = { kind: 'host', id: hostId };
  await writeSecret(scene.database.connections, owner, 'migrationCertificate', certificate);
  await writeSecret(scene.database.connections, owner, 'migrationKey', key);
  return certificate;
}

const operations = (): Promise<{ type: string; targetId: string }[]> =>
  rowsOf(scene.database.connections, 'SELECT type, "targetId" FROM "operation"');

test('it stays the same, whoever asks and however many at once', async () => {
  const address = '10.9.8.7';
  const asked = await Promise.all([1, 2, 3].map(() => hostCertificate(scene.database, hostId, address)));
  expect(new Set(asked.map(({ certificate }) => certificate)).size).toBe(1);
  expect(await hostCertificate(scene.database, hostId, address)).toEqual(asked[0]);
  const { certificate, caCertificate } = asked[0] ?? { certificate: '', caCertificate: '' };
  expect(new X509Certificate(certificate).checkIssued(new X509Certificate(caCertificate))).toBe(true);
});

test('it is another one for another address, and in the last third of its life', async () => {
  const first = await hostCertificate(scene.database, hostId, '10.9.8.7');
  const moved = await hostCertificate(scene.database, hostId, '10.9.8.8');
  expect(moved.certificate).not.toBe(first.certificate);
  expect(new X509Certificate(moved.certificate).checkIP('10.9.8.8')).toBe('10.9.8.8');
  const old = await age();
  const renewed = await Promise.all([1, 2].map(() => hostCertificate(scene.database, hostId, 'sim://somewhere')));
  expect(renewed[0]?.certificate).not.toBe(old);
  expect(renewed[1]).toEqual(renewed[0]);
});

test('a host whose certificate ends soon is connected again by the platform itself, once, and only where it answers', async () => {
  await scene.stage.query(`UPDATE "host" SET connection = 'connected'`);
  await hostCertificate(scene.database, hostId, '10.9.8.7');
  expect((await renewHostCertificates(scene.database, silent)).ending).toBe(0);
  expect(await operations()).toEqual([]);
  await age();
  await scene.stage.query(`UPDATE "host" SET connection = 'disconnected'`);
  expect((await renewHostCertificates(scene.database, silent)).ending).toBe(1);
  expect(await operations()).toEqual([]);
  await scene.stage.query(`UPDATE "host" SET connection = 'connected'`);
  // A guest is on its way.
  await scene.stage.query(
    `INSERT INTO "hostClaim" ("hostId", "instanceId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, $3, 1, 128)`,
    [hostId, scene.ids.instance, crypto.randomUUID()],
  );
  await scene.stage.query(`UPDATE "instance" SET "currentOperationId" = $1`, [crypto.randomUUID()]);
  await renewHostCertificates(scene.database, silent);
  expect(await operations()).toEqual([]);
  await scene.stage.query(`UPDATE "instance" SET "currentOperationId" = NULL`);
  await renewHostCertificates(scene.database, silent);
  await renewHostCertificates(scene.database, silent);
  expect(await operations()).toEqual([{ type: 'host.connect', targetId: hostId }]);
});
