/**
 * What uploaded bytes are. Only raw disks and self-contained qcow2 files pass: a file that names another one would make a host open
 * whatever the uploader likes, and one that lacks what its tables promise would become a disk with holes.
 */
import { Problem } from '../../runtime/problem.ts';

export interface ImageFacts {
  format: 'raw' | 'qcow2';
  /** Null for raw: it is as large as the file. */
  virtualSizeBytes: number | null;
}

/** So much of the file's beginning is needed; ISO 9660 puts its mark deepest. */
export const headBytes = 40_960;
const sectorBytes = 512;
/** The largest volume there is: 65,536 GiB. */
export const maxVirtualSizeBytes = 65_536 * 2 ** 30;

const refused = (message: string): Problem => new Problem('PRECONDITION_FAILED', message);

/** Magic numbers of what people upload by mistake. */
const foreign: [name: string, offset: number, magic: string][] = [
  ['VMDK', 0, 'KDMV'],
  ['VMDK', 0, 'COWD'],
  ['a VMDK descriptor', 0, '# Disk DescriptorFile'],
  ['VHD', 0, 'conectix'],
  ['VHDX', 0, 'vhdxfile'],
  ['VDI', 0x40, '\x7f\x10\xda\xbe'],
  ['QED', 0, 'QED\0'],
  ['Parallels', 0, 'WithoutFreeSpace'],
  ['Parallels', 0, 'WithouFreSpacExt'],
  ['QCOW version 1', 0, 'QFI\xfb\0\0\0\x01'],
  ['LUKS', 0, 'LUKS\xba\xbe'],
  ['gzip', 0, '\x1f\x8b'],
  ['xz', 0, '\xfd7zXZ\0'],
  ['bzip2', 0, 'BZh'],
  ['zstd', 0, '\x28\xb5\x2f\xfd'],
  ['zip', 0, 'PK\x03\x04'],
  ['7z', 0, '7z\xbc\xaf\x27\x1c'],
  ['tar', 257, 'ustar'],
  ['ELF', 0, '\x7fELF'],
];

const has = (head: Buffer, offset: number, magic: string): boolean =>
  head.toString('latin1', offset, offset + magic.length) === magic;

/** The header as QEMU's docs/interop/qcow2.txt lays it down. */
function inspectQcow2(head: Buffer): ImageFacts {
  if (head.length < 72) throw refused(`a qcow2 header has at least 72 bytes, the file has ${head.length}`);
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refused(`qcow2 version ${version} is unknown; versions 2 and 3 are taken`);
  if (head.readBigUInt64BE(8) !== 0n)
    throw refused('the qcow2 file has a backing file; flatten it first (qemu-img convert -O qcow2)');
  if (head.readUInt32BE(32) !== 0) throw refused('the qcow2 file is encrypted; images are taken in the clear');
  if (version === 3) {
    if (head.length < 104) throw refused(`a qcow2 version 3 header has 104 bytes, the file has ${head.length}`);
    const features = head.readBigUInt64BE(72);
    if (features & 2n) throw refused('the qcow2 file is marked corrupt; repair it first (qemu-img check -r all)');
    if (features & 4n) throw refused('the qcow2 file keeps its data in an external file');
    if (features >> 5n) throw refused(`the qcow2 file needs features that are unknown (0x${features.toString(16)})`);
  }
  const virtualSizeBytes = Number(head.readBigUInt64BE(24));
  if (virtualSizeBytes === 0 || virtualSizeBytes > maxVirtualSizeBytes)
    throw refused(`a virtual size of ${virtualSizeBytes} bytes is out of bounds; up to 65,536 GiB are taken`);
  return { format: 'qcow2', virtualSizeBytes };
}

/**
 * Tells the format from the first `headBytes` bytes (or all there are).
 *
 * @throws Problem PRECONDITION_FAILED for anything but a raw disk with a partition table or boot sector, and plain qcow2
 */
export function inspectHead(head: Buffer): ImageFacts {
  const found = foreign.find(([, offset, magic]) => has(head, offset, magic));
  if (found) throw refused(`the file is ${found[0]}; raw disks and qcow2 are taken (qemu-img convert -O qcow2)`);
  if (has(head, 0, 'QFI\xfb')) return inspectQcow2(head);
  const isBootable = has(head, 510, '\x55\xaa');
  const hasGpt = has(head, 512, 'EFI PART') || has(head, 4096, 'EFI PART');
  if (isBootable || hasGpt) return { format: 'raw', virtualSizeBytes: null };
  if (has(head, 0x8001, 'CD001')) throw refused('the file is a CD image without a boot sector, which is no disk');
  throw refused('the file is no disk: it is not qcow2, and as a raw disk it has neither a boot sector nor a GPT');
}

/**
 * What only the end tells of a raw disk.
 *
 * @throws Problem PRECONDITION_FAILED for half sectors, too large ones, and fixed VHD, which is a raw disk with a footer
 */
export function inspectRawEnd(sizeBytes: number, lastBytes: Buffer): void {
  if (has(lastBytes, 0, 'conectix'))
    throw refused('the file is a fixed VHD; raw disks and qcow2 are taken (qemu-img convert -O qcow2)');
  if (sizeBytes % sectorBytes !== 0)
    throw refused(`a raw disk is a multiple of ${sectorBytes} bytes, the file has ${sizeBytes}: is it cut off?`);
  if (sizeBytes > maxVirtualSizeBytes) throw refused(`${sizeBytes} bytes are too many; up to 65,536 GiB are taken`);
}

/** Reads so many bytes of the file from there on; fewer only at its end. */
export type ReadRange = (offset: number, length: number) => Promise<Buffer>;

interface Qcow2Layout {
  clusterBytes: number;
  clusterBits: number;
  /** Of one entry of a level 2 table: 16 where clusters are divided further. */
  entryBytes: number;
  virtualSizeBytes: number;
  l1Offset: number;
  l1Entries: number;
}

/** QEMU's own limit (QCOW_MAX_L1_SIZE): what it will not open need not be read. */
const maxL1Bytes = 32 * 2 ** 20;
const word = 2 ** 32;
/** Bits 9 to 55 of an entry, of its two halves: where in the file. In numbers, not BigInts: there may be millions. */
const offsetOf = (high: number, low: number): number => (high & 0x00ff_ffff) * word + ((low & 0xffff_fe00) >>> 0);

const cutOff = (what: string, needed: number, sizeBytes: number): Problem =>
  refused(`the qcow2 file is cut off: ${what} reaches to byte ${needed}, the file has ${sizeBytes}`);

/** Where the tables are, from a header that `inspectHead` has passed. */
function layoutOf(head: Buffer, sizeBytes: number): Qcow2Layout {
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    throw refused(`qcow2 clusters of 2^${clusterBits} bytes are out of bounds; 2^9 to 2^21 are taken`);
  const clusterBytes = 2 ** clusterBits;
  const extended = head.readUInt32BE(4) === 3 && (head.readBigUInt64BE(72) & 16n) !== 0n;
  const entryBytes = extended ? 16 : 8;
  const virtualSizeBytes = Number(head.readBigUInt64BE(24));
  const needed = Math.ceil(virtualSizeBytes / (clusterBytes * (clusterBytes / entryBytes)));
  const l1Entries = head.readUInt32BE(36);
  const l1Offset = Number(head.readBigUInt64BE(40));
  if (l1Entries < needed)
    throw refused(`the qcow2 file's level 1 table has ${l1Entries} entries; its virtual size needs ${needed}`);
  if (l1Entries * 8 > maxL1Bytes)
    throw refused(`the qcow2 file's level 1 table has ${l1Entries} entries, which is too many`);
  if (l1Offset % clusterBytes !== 0 || l1Offset === 0)
    throw refused(`the qcow2 file's level 1 table is at byte ${l1Offset}, where no cluster begins`);
  if (l1Offset + l1Entries * 8 > sizeBytes) throw cutOff('its level 1 table', l1Offset + l1Entries * 8, sizeBytes);
  const refcountOffset = Number(head.readBigUInt64BE(48));
  const refcountBytes = head.readUInt32BE(56) * clusterBytes;
  if (refcountOffset % clusterBytes !== 0 || refcountOffset === 0 || refcountBytes === 0)
    throw refused('the qcow2 file has no refcount table where its header says');
  if (refcountOffset + refcountBytes > sizeBytes)
    throw cutOff('its refcount table', refcountOffset + refcountBytes, sizeBytes);
  return { clusterBytes, clusterBits, entryBytes, virtualSizeBytes, l1Offset, l1Entries: needed };
}

/** Marks each cluster of the file that has been promised to the guest; answers false for one that was already. */
function marks(count: number): (index: number) => boolean {
  const bits = new Uint8Array(Math.ceil(count / 8));
  return (index) => {
    const at = index >>> 3;
    const bit = 1 << (index & 7);
    const before = bits[at] ?? 0;
    bits[at] = before | bit;
    return (before & bit) === 0;
  };
}

/** So many table bytes at a time, for tables that lie side by side. */
const readAtOnceBytes = 2 ** 20;
/** A 64 KiB cluster of one byte repeated is some 20 bytes when zstd has had it: what claims less than this was not compressed. */
const leastCompressedBytes = 16;

/**
 * Checks that the file holds every cluster that its tables promise, each once: so it gives no more bytes than it has, but for
 * what is zero or compressed. `head` is the file's beginning. Reads the tables and nothing else.
 *
 * @throws Problem PRECONDITION_FAILED
 */
export async function inspectQcow2Tables(head: Buffer, sizeBytes: number, read: ReadRange): Promise<void> {
  const layout = layoutOf(head, sizeBytes);
  const { clusterBytes, entryBytes, virtualSizeBytes } = layout;
  const guestBytesOfTable = clusterBytes * (clusterBytes / entryBytes);
  const tables: { offset: number; guestOffset: number }[] = [];
  const l1 = await read(layout.l1Offset, layout.l1Entries * 8);
  if (l1.length < layout.l1Entries * 8)
    throw cutOff('its level 1 table', layout.l1Offset + layout.l1Entries * 8, sizeBytes);
  for (let index = 0; index < layout.l1Entries; index++) {
    const offset = offsetOf(l1.readUInt32BE(index * 8), l1.readUInt32BE(index * 8 + 4));
    if (offset === 0) continue;
    if (offset % clusterBytes !== 0)
      throw refused(`a level 2 table of the qcow2 file is at byte ${offset}, where no cluster begins`);
    if (offset + clusterBytes > sizeBytes) throw cutOff('a level 2 table', offset + clusterBytes, sizeBytes);
    tables.push({ offset, guestOffset: index * guestBytesOfTable });
  }
  const isFirst = marks(Math.ceil(sizeBytes / clusterBytes));
  let compressed = 0;
  const twice = (): Problem =>
    refused('the qcow2 file promises the same bytes at several places; write it anew (qemu-img convert -O qcow2)');

  /** `share` of the cluster holds data: less than all of it where clusters are divided further. */
  function inspectEntry(high: number, low: number, guestOffset: number, share: number): void {
    if (high & 0x4000_0000) {
      // The higher bits count sectors, the lower say where they begin (qcow2.txt, "Compressed Clusters Descriptor").
      const bitsOfHigh = 62 - (layout.clusterBits - 8) - 32;
      const offset = (high & (2 ** bitsOfHigh - 1)) * word + low;
      const sectors = ((high & 0x3fff_ffff) >>> bitsOfHigh) + 1;
      // The last sector may be cut short by the end of the file: only what is compressed into it was written.
      const lastSector = offset - (offset % sectorBytes) + (sectors - 1) * sectorBytes;
      if (Math.max(offset, lastSector) >= sizeBytes)
        throw cutOff('a compressed cluster', Math.max(offset, lastSector) + 1, sizeBytes);
      compressed += 1;
      return;
    }
    const offset = offsetOf(high, low);
    // Nothing, or room kept for what reads as zeros: neither needs to be there.
    if (offset === 0 || share === 0 || (entryBytes === 8 && low & 1)) return;
    if (offset % clusterBytes !== 0)
      throw refused(`a cluster of the qcow2 file is at byte ${offset}, where none begins`);
    const end = offset + Math.min(clusterBytes * share, virtualSizeBytes - guestOffset);
    if (end > sizeBytes) throw cutOff('a cluster', end, sizeBytes);
    if (!isFirst(offset / clusterBytes)) throw twice();
  }

  tables.sort((a, b) => a.offset - b.offset);
  for (let at = 0; at < tables.length; ) {
    const run = [tables[at] as (typeof tables)[number]];
    const [begin] = run;
    for (let next = at + 1; next < tables.length; next++) {
      const one = tables[next] as (typeof tables)[number];
      if (one.offset === run.at(-1)?.offset) throw twice();
      if (
        one.offset !== (begin?.offset ?? 0) + run.length * clusterBytes ||
        run.length * clusterBytes >= readAtOnceBytes
      )
        break;
      run.push(one);
    }
    const bytes = await read(begin?.offset ?? 0, run.length * clusterBytes);
    for (const [index, { guestOffset }] of run.entries()) {
      const table = bytes.subarray(index * clusterBytes, (index + 1) * clusterBytes);
      if (table.length < clusterBytes) throw cutOff('a level 2 table', (begin?.offset ?? 0) + bytes.length, sizeBytes);
      for (let entry = 0; entry * entryBytes < clusterBytes; entry++) {
        const guest = guestOffset + entry * clusterBytes;
        if (guest >= virtualSizeBytes) break;
        const high = table.readUInt32BE(entry * entryBytes);
        const low = table.readUInt32BE(entry * entryBytes + 4);
        if (high === 0 && low === 0) continue;
        // A bit for each part of the cluster that holds data, the last part's the highest.
        const parts = entryBytes === 8 ? 0x8000_0000 : table.readUInt32BE(entry * entryBytes + 12);
        inspectEntry(high, low, guest, (32 - Math.clz32(parts)) / 32);
      }
    }
    at += run.length;
  }
  if (compressed * leastCompressedBytes > sizeBytes) throw twice();
}
