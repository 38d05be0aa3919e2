/**
 * What uploaded bytes are, from their first bytes alone. Only raw disks and self-contained qcow2 files pass: a file that names
 * another one would make a host open whatever the uploader likes.
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
