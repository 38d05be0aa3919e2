/** What an uploaded qcow2 file promises, it must hold. */
import { describe, expect, test } from 'vitest';
import { headBytes, inspectHead, inspectQcow2Tables } from '../../../activities/storage/imageFormat.ts';

const clusterBytes = 65_536;
const compressedBit = 1n << 62n;

interface Wanted {
  virtualSizeBytes?: number;
  /** Entries of the only level 2 table. */
  entries?: bigint[];
  /** Entries of the level 1 table; the first one points at the level 2 table unless said. */
  l1?: bigint[];
  /** Clusters behind the tables. */
  data?: number;
  change?(header: Buffer): void;
}

const l2Offset = 3 * clusterBytes;
const dataAt = (index: number): bigint => BigInt(4 * clusterBytes + index * clusterBytes);

/** Header, refcount table, level 1 table, level 2 table, data: a cluster each. */
function qcow2({ virtualSizeBytes = 2 ** 30, entries = [], l1, data = 0, change }: Wanted = {}): Buffer {
  const file = Buffer.alloc((4 + data) * clusterBytes);
  const tables =
    l1 ??
    [...Array(Math.ceil(virtualSizeBytes / 2 ** 29)).keys()].map((index) => (index === 0 ? BigInt(l2Offset) : 0n));
  file.write('QFI\xfb', 0, 'latin1');
  file.writeUInt32BE(3, 4);
  file.writeUInt32BE(16, 20);
  file.writeBigUInt64BE(BigInt(virtualSizeBytes), 24);
  file.writeUInt32BE(tables.length, 36);
  file.writeBigUInt64BE(BigInt(2 * clusterBytes), 40);
  file.writeBigUInt64BE(BigInt(clusterBytes), 48);
  file.writeUInt32BE(1, 56);
  file.writeUInt32BE(4, 96);
  file.writeUInt32BE(104, 100);
  change?.(file);
  for (const [index, entry] of tables.entries()) file.writeBigUInt64BE(entry, 2 * clusterBytes + index * 8);
  for (const [index, entry] of entries.entries()) file.writeBigUInt64BE(entry, l2Offset + index * 8);
  return file;
}

async function verdict(file: Buffer): Promise<string> {
  try {
    const head = file.subarray(0, headBytes);
    inspectHead(head);
    await inspectQcow2Tables(head, file.length, async (offset, length) => file.subarray(offset, offset + length));
    return 'taken';
  } catch (error) {
    expect(error).toMatchObject({ code: 'PRECONDITION_FAILED' });
    return (error as Error).message;
  }
}

describe('a qcow2 file is taken', () => {
  test.each<[string, Wanted]>([
    ['that is empty', {}],
    ['that holds its clusters', { entries: [dataAt(1), 0n, dataAt(0)], data: 2 }],
    ['whose zeros are only promised', { entries: [dataAt(7) | 1n] }],
    ['whose last cluster is as long as the disk still is', { virtualSizeBytes: 512, entries: [dataAt(0)], data: 1 }],
    [
      'whose clusters are compressed',
      { entries: [compressedBit | dataAt(0), compressedBit | (dataAt(0) + 100n)], data: 1 },
    ],
  ])('%s', async (_, wanted) => {
    expect(await verdict(qcow2(wanted))).toBe('taken');
  });
});

describe('a qcow2 file is refused', () => {
  test('that is a header and nothing else', async () => {
    expect(await verdict(qcow2().subarray(0, 104))).toContain('cut off: its level 1 table');
  });

  test('wherever it is cut off before its last promised byte', async () => {
    const whole = qcow2({ entries: [dataAt(0), dataAt(1)], data: 2 });
    expect(await verdict(whole)).toBe('taken');
    for (const bytes of [110, clusterBytes, 2 * clusterBytes + 8, l2Offset + 8, 5 * clusterBytes, whole.length - 1])
      expect(await verdict(whole.subarray(0, bytes))).toContain('cut off');
  });

  test.each<[string, RegExp, Wanted]>([
    [
      'all of whose clusters are the same bytes',
      /at several places/,
      { entries: Array(8_192).fill(dataAt(0)), data: 1 },
    ],
    ['one of whose tables is there twice', /at several places/, { l1: [BigInt(l2Offset), BigInt(l2Offset)] }],
    [
      'whose compressed clusters are more than could be compressed into it',
      /at several places/,
      {
        virtualSizeBytes: 2 ** 33,
        l1: Array.from({ length: 16 }, (_, index) => BigInt(l2Offset + index * clusterBytes)),
        data: 15,
        change: fillTables,
      },
    ],
    ['whose cluster is beyond its end', /cut off: a cluster/, { entries: [dataAt(5)], data: 1 }],
    [
      'whose compressed cluster is beyond its end',
      /cut off: a compressed cluster/,
      { entries: [compressedBit | dataAt(0)] },
    ],
    ['whose cluster begins inside another', /where none begins/, { entries: [dataAt(0) + 512n], data: 2 }],
    ['whose level 2 table is beyond its end', /cut off: a level 2 table/, { l1: [dataAt(0), 0n] }],
    [
      'whose level 1 table is too short for its size',
      /has 1 entries; its virtual size needs 2/,
      { l1: [BigInt(l2Offset)] },
    ],
    ['that has no refcount table', /no refcount table/, { change: (header) => header.writeUInt32BE(0, 56) }],
    [
      'whose clusters are larger than QEMU takes',
      /out of bounds/,
      { change: (header) => header.writeUInt32BE(30, 20) },
    ],
  ])('%s', async (_, message, wanted) => {
    expect(await verdict(qcow2(wanted))).toMatch(message);
  });
});

/** Sixteen level 2 tables, each of whose entries says that it is compressed into the first sector. */
function fillTables(file: Buffer): void {
  for (let at = l2Offset; at < file.length; at += 8) file.writeBigUInt64BE(compressedBit | 512n, at);
}
