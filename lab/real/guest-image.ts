import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Board } from '../../runtime/progress.mjs';
import { labPaths } from './layout.ts';
import { must } from './processes.ts';

const guestFiles = join(import.meta.dirname, 'guest-files');
const kernelMetaPackage = 'linux-image-cloud-amd64';
/** busybox-static would replace the machine's busybox, and the agent should not run here: these are unpacked, never installed. */
const guestPackages = ['busybox-static', 'qemu-guest-agent', 'dropbear-bin', 'libtomcrypt1', 'libtommath1'];
const drivers = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_console',
  'virtio_balloon',
  'button',
  'evdev',
  'isofs',
];
const hostPrograms = ['/sbin/mke2fs', '/sbin/resize2fs'];

const sectorBytes = 512;
const diskMib = 128;
const bootPartition = { startMib: 1, sizeMib: 24 };
const rootPartition = { startMib: 25, sizeMib: diskMib - 25 };
/** Without what takes long where there is no KVM and no guest here needs: tests of ciphers, traces, certificates of modules, security modules. */
const kernelOptions =
  'console=ttyS0 quiet panic=1 tsc=reliable no_timer_check nokaslr mitigations=off cryptomgr.notests edd=off noreplace-smp lsm= initcall_blacklist=init_kprobe_trace,load_system_certificate_list root=/dev/vda2 rw';

/**
 * The path of a tiny guest image (qcow2, 128 MiB), built once from Debian's packages, in seconds and without a loop device.
 *
 * The guest boots by BIOS from a virtio disk, needs 128 MiB, reads a NoCloud seed (virtio disk labelled `cidata`, or with a serial
 * number that begins with `seed`): host name, SSH keys for root, and user data, run at every boot when it begins with `#!`. It asks DHCP for
 * its first interface, serves HTTP on 80 and SSH on 22, runs qemu-guest-agent, and writes `READY <host name> <ip> …` to the serial line, then
 * `TICK <n> disk=ok …` each second. In it: busybox (nc, httpd, ping), mkfs.ext4, resize2fs, `hget`.
 */
export async function buildGuestImage(home: string, board: Board): Promise<string> {
  const { guest, guestImage } = labPaths(home);
  const recipe = join(guest, 'recipe');
  const wanted = recipeDigest();
  if (existsSync(guestImage) && existsSync(recipe) && readFileSync(recipe, 'utf8') === wanted) return guestImage;
  mkdirSync(guest, { recursive: true });
  for (const name of readdirSync(guest)) {
    if (name.startsWith('build-')) rmSync(join(guest, name), { recursive: true, force: true }); // of a run that was killed
  }
  const work = mkdtempSync(join(guest, 'build-'));
  try {
    const packages = await fetchGuestPackages(home, board);
    await must(['depmod', '-b', packages.kernel, packages.kernelVersion]);
    const root = join(work, 'root');
    await makeRootTree(root, packages);
    await makeDisk(work, root, packages);
    await must(['qemu-img', 'convert', '-O', 'qcow2', join(work, 'disk.raw'), join(work, 'disk.qcow2')]);
    renameSync(join(work, 'disk.qcow2'), guestImage);
    writeFileSync(recipe, wanted);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return guestImage;
}

/** The image is built anew when this file or one of the guest's files has changed. */
function recipeDigest(): string {
  const digest = createHash('sha256').update(readFileSync(import.meta.filename));
  for (const name of readdirSync(guestFiles).sort()) digest.update(name).update(readFileSync(join(guestFiles, name)));
  return digest.digest('hex');
}

interface Packages {
  kernelVersion: string;
  kernel: string;
  busybox: string;
  programs: string;
}

/** Fetches and unpacks what the guest is made of, unless it is there. Needs an apt that knows its packages, and nothing installed. */
export async function fetchGuestPackages(home: string, board: Board): Promise<Packages> {
  const directory = join(labPaths(home).guest, 'packages');
  const depends = await must(['apt-cache', 'depends', kernelMetaPackage]);
  const kernelPackage = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (kernelPackage === undefined) throw new Error(`lab: apt knows no ${kernelMetaPackage}; run apt-get update`);
  const packages: Packages = {
    kernelVersion: kernelPackage.slice('linux-image-'.length),
    kernel: join(directory, kernelPackage),
    busybox: join(directory, 'busybox-static'),
    programs: join(directory, 'programs'),
  };
  const target: Record<string, string> = { [kernelPackage]: packages.kernel, 'busybox-static': packages.busybox };
  const done = join(directory, `unpacked-${kernelPackage}`);
  if (existsSync(done)) return packages;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const part = board.begin("the guest's kernel and programs", { seconds: 10 });
  // The sandbox user of apt may not enter this directory.
  const download = ['apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', kernelPackage, ...guestPackages];
  await must(download, { cwd: directory }).catch((error: unknown) => {
    part.drop();
    throw error;
  });
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.deb'))) {
    const name = file.split('_')[0] ?? file;
    await must(['dpkg-deb', '-x', join(directory, file), target[name] ?? packages.programs]);
    rmSync(join(directory, file));
  }
  writeFileSync(done, '');
  part.end();
  return packages;
}

async function makeRootTree(root: string, packages: Packages): Promise<void> {
  const directories =
    'bin sbin etc/acpi/PWRF proc sys dev run tmp mnt var/log var/lib root usr/sbin usr/bin www/cgi-bin lib/m lib64 newroot seed';
  for (const directory of directories.split(' ')) mkdirSync(join(root, directory), { recursive: true });
  const busybox = join(root, 'bin/busybox');
  copyFileSync(join(packages.busybox, 'bin/busybox'), busybox);
  for (const applet of (await must([busybox, '--list'])).trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('/bin/busybox', join(root, 'bin', applet));
  }
  for (const name of ['init', 'poweroff', 'reboot', 'halt']) symlinkSync('/bin/busybox', join(root, 'sbin', name));
  copyDrivers(root, packages);
  await copyPrograms(root, packages);
  const place = (name: string, path: string) => {
    copyFileSync(join(guestFiles, name), join(root, path));
    chmodSync(join(root, path), 0o755);
  };
  place('init', 'init');
  for (const name of ['inittab', 'rc', 'rc.down', 'tick', 'guest-agent', 'udhcpc']) place(name, join('etc', name));
  place('shutdown', 'sbin/shutdown');
  place('hget', 'usr/bin/hget');
  rmSync(join(root, 'bin/nc'));
  place('nc', 'bin/nc');
  writeFileSync(join(root, 'etc/acpi/PWRF/00000080'), '#!/bin/sh\npoweroff\n', { mode: 0o755 });
  writeFileSync(join(root, 'etc/passwd'), 'root::0:0:root:/root:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/shells'), '/bin/sh\n');
}

/** Drivers in the order in which they load, dependencies first. The order is the kernel's own: stable updates change it. */
function copyDrivers(root: string, { kernel, kernelVersion }: Packages): void {
  const modules = join(kernel, 'lib/modules', kernelVersion);
  const dependencies = new Map(
    readFileSync(join(modules, 'modules.dep'), 'utf8')
      .split('\n')
      .map((line) => {
        const [path = '', needs = ''] = line.split(':');
        return [path, needs.trim().split(' ').filter(Boolean)] as const;
      }),
  );
  const order = new Set<string>();
  for (const driver of drivers) {
    const path = [...dependencies.keys()].find((key) => basename(key) === `${driver}.ko`);
    if (path === undefined) throw new Error(`lab: kernel ${kernelVersion} has no driver ${driver}`);
    for (const needed of [...(dependencies.get(path) ?? [])].reverse()) order.add(needed);
    order.add(path);
  }
  for (const path of order) copyFileSync(join(modules, path), join(root, 'lib/m', basename(path)));
  writeFileSync(join(root, 'lib/m/order'), `${[...order].map((path) => basename(path)).join('\n')}\n`);
}

async function copyPrograms(root: string, { programs }: Packages): Promise<void> {
  const from = ['usr/sbin/qemu-ga', 'usr/sbin/dropbear', 'usr/bin/dropbearkey', 'usr/bin/dbclient'].map((path) =>
    join(programs, path),
  );
  const libraries = new Set<string>();
  for (const program of [...from, ...hostPrograms]) {
    const name = basename(program) === 'mke2fs' ? 'mkfs.ext4' : basename(program);
    copyFileSync(program, join(root, 'usr/sbin', name));
    const listed = await must(['ldd', program], {
      env: { LD_LIBRARY_PATH: join(programs, 'usr/lib/x86_64-linux-gnu') },
    });
    for (const [path] of listed.matchAll(/\/\S+/g)) libraries.add(path);
  }
  for (const library of libraries) {
    const inGuest = join(root, library.startsWith(programs) ? library.slice(programs.length) : library);
    mkdirSync(dirname(inGuest), { recursive: true });
    copyFileSync(library, inGuest);
  }
  copyFileSync('/etc/mke2fs.conf', join(root, 'etc/mke2fs.conf'));
}

/** A disk with a FAT partition that syslinux boots from, and an ext4 root, both filled without mounting anything. */
async function makeDisk(work: string, root: string, { kernel, kernelVersion }: Packages): Promise<void> {
  const file = (name: string) => join(work, name);
  const sparse = (name: string, mib: number) => {
    appendFileSync(file(name), '');
    truncateSync(file(name), mib * 2 ** 20);
  };
  const early = ['init', 'bin', 'lib/m', 'proc', 'sys', 'dev', 'newroot', 'sbin/init'];
  // The kernel makes no parent directories when it unpacks: they have to be listed before what is in them.
  const listed = `lib\nsbin\n${await must(['find', ...early], { cwd: root })}`;
  const initrd = file('initrd.cpio');
  await must(['cpio', '--create', '--format=newc', '--quiet', '--owner=0:0', '-O', initrd], {
    input: listed,
    cwd: root,
  });
  await must(['gzip', '-1', initrd]);

  const sectors = (mib: number) => (mib * 2 ** 20) / sectorBytes;
  sparse('disk.raw', diskMib);
  const table = [
    'label: dos',
    `start=${sectors(bootPartition.startMib)}, size=${sectors(bootPartition.sizeMib)}, type=e, bootable`,
    `start=${sectors(rootPartition.startMib)}, type=83`,
  ];
  await must(['sfdisk', '--quiet', file('disk.raw')], { input: `${table.join('\n')}\n` });
  await must([
    'dd',
    'if=/usr/lib/syslinux/mbr/mbr.bin',
    `of=${file('disk.raw')}`,
    'bs=440',
    'count=1',
    'conv=notrunc',
    'status=none',
  ]);

  sparse('boot.fat', bootPartition.sizeMib);
  await must(['mkfs.vfat', '-F', '16', '-n', 'BELAY', file('boot.fat')]);
  const menu = `DEFAULT l\nPROMPT 0\nTIMEOUT 0\nLABEL l\n KERNEL vmlinuz\n INITRD initrd\n APPEND ${kernelOptions}\n`;
  writeFileSync(file('syslinux.cfg'), menu);
  const bootFiles = {
    vmlinuz: join(kernel, `boot/vmlinuz-${kernelVersion}`),
    initrd: `${initrd}.gz`,
    'syslinux.cfg': file('syslinux.cfg'),
  };
  for (const [name, source] of Object.entries(bootFiles))
    await must(['mcopy', '-i', file('boot.fat'), source, `::${name}`]);
  await must(['syslinux', '--install', file('boot.fat')]);

  sparse('root.ext4', rootPartition.sizeMib);
  const ext4 = ['mkfs.ext4', '-q', '-L', 'belay', '-O', '^metadata_csum', '-E', 'root_owner=0:0', '-d', root];
  await must([...ext4, file('root.ext4')]);
  for (const [name, { startMib }] of [['boot.fat', bootPartition] as const, ['root.ext4', rootPartition] as const]) {
    const target = [`of=${file('disk.raw')}`, 'bs=1M', `seek=${startMib}`, 'conv=notrunc,sparse', 'status=none'];
    await must(['dd', `if=${file(name)}`, ...target]);
  }
}
