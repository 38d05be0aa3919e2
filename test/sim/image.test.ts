/** Images: what is taken, and what an upload leaves behind. */
import { expect, inject, test } from 'vitest';
import type { ApiProblem, OperationView, Resource } from '../../lab/api.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { joinCloud } from '../support/cloud.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { cloud } = joinCloud(address);
const { tenant } = cloud;

const zoneId = cloud.zone.id;
const bytesType = { 'content-type': 'application/octet-stream' };
const announce = (more: Record<string, unknown> = {}): Promise<Resource> =>
  tenant.call('POST', '/v1/images', { name: 'disk', zoneId, ...more });
const send = async (id: string, bytes: Uint8Array): Promise<ApiProblem & OperationView> => {
  const response = await tenant.raw('PUT', `/v1/images/${id}/content`, bytes, bytesType);
  return (await response.json()) as ApiProblem & OperationView;
};
const inStore = async (): Promise<string> => JSON.stringify((await simulatorInventory(address.simulatorUrl)).s3);

/** A qcow2 file of so many GiB that holds nothing: header, refcount table, level 1 table. */
function emptyQcow2(gib: number): Buffer {
  const file = Buffer.alloc(3 * 65_536);
  file.write('QFI\xfb', 0, 'latin1');
  file.writeUInt32BE(3, 4);
  file.writeUInt32BE(16, 20);
  file.writeBigUInt64BE(BigInt(gib) * 2n ** 30n, 24);
  file.writeUInt32BE(gib * 2, 36);
  file.writeBigUInt64BE(131_072n, 40);
  file.writeBigUInt64BE(65_536n, 48);
  file.writeUInt32BE(1, 56);
  file.writeUInt32BE(4, 96);
  file.writeUInt32BE(104, 100);
  return file;
}

test('a header alone is no image, nor is a file that is cut off; nothing of it stays', async () => {
  const { id } = await announce();
  const whole = emptyQcow2(4);
  for (const bytes of [whole.subarray(0, 104), whole.subarray(0, whole.length - 65_536)]) {
    const problem = await send(id, bytes);
    expect([problem.status, problem.code]).toEqual([412, 'PRECONDITION_FAILED']);
    expect(problem.detail).toContain('cut off');
    expect((await tenant.call('GET', `/v1/images/${id}`)).state).toBe('awaitingUpload');
    expect(await inStore()).not.toContain(id);
  }
  await tenant.settled((await send(id, whole)).id);
  expect(await tenant.call('GET', `/v1/images/${id}`)).toMatchObject({ state: 'ready', minSizeGib: 4 });
  await tenant.done('DELETE', `/v1/images/${id}`);
  expect(await inStore()).not.toContain(id);
});

test('an image that is deleted while its bytes come leaves nothing in the store', async () => {
  const { id } = await announce();
  let more = (): void => {};
  const goOn = new Promise<void>((resolve) => {
    more = resolve;
  });
  const disk = smallRawDisk();
  const body = new ReadableStream({
    async start(controller) {
      // A part of S3's is begun, and more is to come.
      for (let part = 0; part < 10; part++) controller.enqueue(part === 0 ? disk : new Uint8Array(disk.length));
      await goOn;
      controller.enqueue(new Uint8Array(disk.length));
      controller.close();
    },
  });
  const sent = fetch(`${address.apiUrl}/v1/images/${id}/content`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${tenant.token}`, ...bytesType },
    body,
    duplex: 'half',
  } as RequestInit);
  while (!(await inStore()).includes(id)) await new Promise((resolve) => setTimeout(resolve, 20));
  await tenant.done('DELETE', `/v1/images/${id}`);
  more();
  expect((await sent).status).toBeGreaterThanOrEqual(400);
  expect(await inStore()).not.toContain(id);
});
