import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { type ObjectStoreClient, objectStoreClient } from '../../../runtime/objectStore.ts';
import { ask, cloud, image, pool, runTask, storageClusterId, tags } from './cloud.ts';

let simulator: Simulator;
let client: ObjectStoreClient;
let Bucket: string;
beforeEach(async () => {
  simulator = await cloud({ hosts: 1 });
  client = s3Client();
  Bucket = simulator.s3.bucket;
});
afterEach(async () => {
  client.destroy();
  await simulator.stop();
});

function s3Client(
  accessKey = simulator.s3.accessKey,
  when: 'WHEN_REQUIRED' | 'WHEN_SUPPORTED' = 'WHEN_SUPPORTED',
): ObjectStoreClient {
  const { endpoint, region, secretKey } = simulator.s3;
  return objectStoreClient({
    endpoint,
    region,
    accessKey,
    secretKey,
    requestChecksumCalculation: when,
    responseChecksumValidation: 'WHEN_SUPPORTED',
    maxAttempts: 1,
  });
}

test('the SDK says nothing of Node versions', () => {
  const warned = vi.spyOn(process, 'emitWarning');
  s3Client().destroy();
  expect(warned).not.toHaveBeenCalled();
});

const put = (Key: string, Body: Buffer | string) => client.send(new PutObjectCommand({ Bucket, Key, Body }));
const bytesOf = async (Key: string, Range?: string) => {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, ...(Range === undefined ? {} : { Range }) }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
};

describe('the store, asked by the SDK', () => {
  test.each(['WHEN_SUPPORTED', 'WHEN_REQUIRED'] as const)(
    'takes streams of unknown length in parts (checksums %s)',
    async (when) => {
      const content = randomBytes(11 * 2 ** 20);
      const pieces = Array.from({ length: 11 }, (_, n) => content.subarray(n * 2 ** 20, (n + 1) * 2 ** 20));
      const uploader = s3Client(undefined, when);
      await new Upload({ client: uploader, params: { Bucket, Key: 'big', Body: Readable.from(pieces) } }).done();
      uploader.destroy();
      expect((await bytesOf('big')).equals(content)).toBe(true);
      expect(simulator.inventory().s3[Bucket]?.unfinishedUploads).toEqual([]);
    },
  );

  test('takes one stream of known length with a trailing checksum', async () => {
    const content = randomBytes(300_000);
    const Body = Readable.from([content.subarray(0, 100_001), content.subarray(100_001)]);
    await client.send(new PutObjectCommand({ Bucket, Key: 'stream', Body, ContentLength: content.length }));
    expect((await bytesOf('stream')).equals(content)).toBe(true);
  });

  test('answers objects, ranges, heads, copies, pages of lists, and deletes', async () => {
    await client.send(new HeadBucketCommand({ Bucket }));
    await put('a/one & two', 'hello world');
    expect((await bytesOf('a/one & two', 'bytes=6-')).toString()).toBe('world');
    await client.send(
      new CopyObjectCommand({ Bucket, Key: 'b', CopySource: encodeURIComponent(`${Bucket}/a/one & two`) }),
    );
    expect(await client.send(new HeadObjectCommand({ Bucket, Key: 'b' }))).toMatchObject({ ContentLength: 11 });
    const page = await client.send(new ListObjectsV2Command({ Bucket, MaxKeys: 1 }));
    expect(page).toMatchObject({ IsTruncated: true, Contents: [{ Key: 'a/one & two', Size: 11 }] });
    const ContinuationToken = page.NextContinuationToken;
    const next = await client.send(new ListObjectsV2Command({ Bucket, MaxKeys: 1, ContinuationToken }));
    expect(next).toMatchObject({ IsTruncated: false, Contents: [{ Key: 'b' }] });
    expect(await client.send(new ListObjectsV2Command({ Bucket, Delimiter: '/' }))).toMatchObject({
      CommonPrefixes: [{ Prefix: 'a/' }],
      Contents: [{ Key: 'b' }],
    });
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'b' }));
    await expect(bytesOf('b')).rejects.toMatchObject({ name: 'NoSuchKey' });
  });

  test('refuses other access keys and expired links', async () => {
    await put('a', 'hello');
    const stranger = s3Client('SOMEBODY');
    await expect(stranger.send(new GetObjectCommand({ Bucket, Key: 'a' }))).rejects.toMatchObject({
      name: 'InvalidAccessKeyId',
    });
    stranger.destroy();
    const link = (signingDate: Date) =>
      getSignedUrl(client, new GetObjectCommand({ Bucket, Key: 'a' }), { expiresIn: 60, signingDate });
    expect(await (await fetch(await link(new Date()))).text()).toBe('hello');
    expect((await fetch(await link(new Date(Date.now() - 120_000)))).status).toBe(403);
  });

  test('shows an upload that was never finished in the inventory', async () => {
    await client.send(new CreateMultipartUploadCommand({ Bucket, Key: 'half' }));
    expect(simulator.inventory().s3[Bucket]?.unfinishedUploads).toEqual(['half']);
  });

  test('fails when a rule says so', async () => {
    simulator.rules.add({ host: 's3', call: 's3.PUT', when: 'before', action: 'fail' });
    await expect(put('a', 'hello')).rejects.toMatchObject({ name: 'ServiceUnavailable' });
    expect(simulator.inventory().s3[Bucket]?.objects).toEqual({});
  });
});

describe('an image import', () => {
  function qcow2(
    virtualSizeBytes: number,
    over: { backingFileOffset?: number; incompatibleFeatures?: number } = {},
  ): Buffer {
    const header = Buffer.alloc(1024);
    header.write('QFI\u00fb', 0, 'latin1');
    header.writeUInt32BE(3, 4);
    header.writeBigUInt64BE(BigInt(over.backingFileOffset ?? 0), 8);
    header.writeBigUInt64BE(BigInt(virtualSizeBytes), 24);
    header.writeBigUInt64BE(BigInt(over.incompatibleFeatures ?? 0), 72);
    return header;
  }

  async function importOf(content: Buffer, sha256 = createHash('sha256').update(content).digest('hex')) {
    await put('image', content);
    const url = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key: 'image' }));
    const input = { ...image('image-1'), url, format: 'qcow2' as const, sha256, tags: tags('image-1') };
    return runTask(simulator, 'host-0', 'image.import', input);
  }

  const images = async () => (await ask(simulator, 'host-0', 'rbd.inventory', { storageClusterId, pool })).images;

  test('fetches from a presigned link, leaves the image with its protected snapshot, and does nothing the second time', async () => {
    const content = qcow2(3 * 2 ** 30);
    expect(await importOf(content)).toMatchObject({ state: 'succeeded', result: { virtualSizeBytes: 3 * 2 ** 30 } });
    expect(await images()).toMatchObject([{ name: 'image-1', sizeBytes: 3 * 2 ** 30, snapshots: ['base'] }]);
    const before = simulator.inventory();
    expect(await importOf(content)).toMatchObject({ state: 'succeeded', result: { virtualSizeBytes: 3 * 2 ** 30 } });
    expect(simulator.inventory()).toEqual(before);
  });

  test.each([
    ['a backing file', qcow2(2 ** 30, { backingFileOffset: 512 })],
    ['an external data file', qcow2(2 ** 30, { incompatibleFeatures: 4 })],
    ['no qcow2 header', Buffer.alloc(2048, 1)],
  ])('refuses %s and leaves no part', async (_what, content) => {
    expect(await importOf(content)).toMatchObject({
      state: 'failed',
      problem: { code: 'PRECONDITION_FAILED', retryable: false },
    });
    expect(await images()).toEqual([]);
  });

  test('refuses another checksum than the announced one and leaves no part', async () => {
    expect(await importOf(qcow2(2 ** 30), '0'.repeat(64))).toMatchObject({ problem: { code: 'PRECONDITION_FAILED' } });
    expect(await images()).toEqual([]);
  });
});
