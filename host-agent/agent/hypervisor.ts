import { chmod, chown, mkdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Problem } from '../problem.ts';
import type { Calls } from '../protocol.ts';
import { runProgram } from './command.ts';
import { replaceFile, restoreFile, setKeys } from './configFile.ts';
import type { Libvirt } from './libvirt.ts';
import { PATHS, readIfExists } from './paths.ts';
import { hasSystemd, restartService } from './serviceManager.ts';

/** Where libvirtd finds its certificates, as server and, through `pkipath` of the migration's URI, as client. */
export const PKI = join(PATHS.configuration, 'pki');
/** Where QEMU finds them. It runs confined, and this directory is the one that Debian's AppArmor profile opens to it. */
const QEMU_PKI = '/etc/pki/qemu';

const QEMU_CONF = '/etc/libvirt/qemu.conf';
const LIBVIRTD_CONF = '/etc/libvirt/libvirtd.conf';
const LIBVIRTD_DEFAULTS = '/etc/default/libvirtd';
const TLS_SOCKET_DROP_IN = '/etc/systemd/system/libvirtd-tls.socket.d/belay.conf';
const TLS_PORT = 16514;
const RESTART_TIMEOUT_MS = 30_000;

type Configuration = Calls['hypervisor.ensureConfigured']['input'];

interface WantedFile {
  path: string;
  mode: number;
  content: string;
  /** QEMU's own user must be able to read it. */
  forQemu?: boolean;
}

async function wantedFiles(input: Configuration, systemd: boolean): Promise<WantedFile[]> {
  const { caCertificate, certificate, privateKey, migrationAddress } = input;
  const qemuConf = setKeys((await readIfExists(QEMU_CONF)) ?? '', {
    migration_host: `"${migrationAddress}"`,
    migration_address: `"${migrationAddress}"`,
    migrate_tls_x509_cert_dir: `"${QEMU_PKI}"`,
    migrate_tls_x509_verify: '1',
    migrate_tls_force: '1',
    // A target that vanished is given up after 12 s instead of 30: the guest stays where it is.
    keepalive_interval: '3',
    keepalive_count: '3',
  });
  const libvirtdConf = setKeys((await readIfExists(LIBVIRTD_CONF)) ?? '', {
    listen_tls: '1',
    listen_tcp: '0',
    listen_addr: `"${migrationAddress}"`,
    tls_port: `"${TLS_PORT}"`,
    // The certificate is the login: only hosts have one of this authority.
    auth_tls: '"none"',
    ca_file: `"${PKI}/cacert.pem"`,
    cert_file: `"${PKI}/servercert.pem"`,
    key_file: `"${PKI}/serverkey.pem"`,
  });
  const files: WantedFile[] = [
    { path: QEMU_CONF, mode: 0o600, content: qemuConf },
    { path: LIBVIRTD_CONF, mode: 0o644, content: libvirtdConf },
    { path: `${PKI}/cacert.pem`, mode: 0o644, content: caCertificate },
    ...['server', 'client'].flatMap((role) => [
      { path: `${PKI}/${role}cert.pem`, mode: 0o644, content: certificate },
      { path: `${PKI}/${role}key.pem`, mode: 0o600, content: privateKey },
    ]),
    { path: `${QEMU_PKI}/ca-cert.pem`, mode: 0o644, content: caCertificate },
    ...['server', 'client'].flatMap((role) => [
      { path: `${QEMU_PKI}/${role}-cert.pem`, mode: 0o644, content: certificate },
      { path: `${QEMU_PKI}/${role}-key.pem`, mode: 0o640, content: privateKey, forQemu: true },
    ]),
  ];
  if (systemd) {
    const socket = `[Socket]\nListenStream=\nListenStream=${migrationAddress}:${TLS_PORT}\nFreeBind=true\n`;
    files.push({ path: TLS_SOCKET_DROP_IN, mode: 0o644, content: socket });
  } else {
    const defaults = setKeys((await readIfExists(LIBVIRTD_DEFAULTS)) ?? '', { LIBVIRTD_ARGS: '"--listen"' }, '=');
    files.push({ path: LIBVIRTD_DEFAULTS, mode: 0o644, content: defaults });
  }
  return files;
}

/** Placed files, in the order in which they are put back. */
const ALL_FILES: { path: string; mode: number }[] = [
  { path: TLS_SOCKET_DROP_IN, mode: 0o644 },
  { path: LIBVIRTD_DEFAULTS, mode: 0o644 },
  { path: LIBVIRTD_CONF, mode: 0o644 },
  { path: QEMU_CONF, mode: 0o600 },
  ...['cacert', 'servercert', 'clientcert', 'serverkey', 'clientkey'].map((file) => ({
    path: `${PKI}/${file}.pem`,
    mode: file.endsWith('key') ? 0o600 : 0o644,
  })),
  ...['ca-cert', 'server-cert', 'client-cert', 'server-key', 'client-key'].map((file) => ({
    path: `${QEMU_PKI}/${file}.pem`,
    mode: file.endsWith('key') ? 0o640 : 0o644,
  })),
];

/** The files that belong to Belay alone, for the inventory. */
export async function placedCertificates(): Promise<string[]> {
  const own = ALL_FILES.map(({ path }) => path).filter((path) => path.startsWith(QEMU_PKI));
  const present = await Promise.all(own.map(async (path) => ((await readIfExists(path)) === undefined ? [] : [path])));
  return present.flat();
}

/** Sets up encrypted migration between hosts; restarts libvirtd, under which guests run on, when a file changed. */
export async function ensureConfigured(libvirt: Libvirt, input: Configuration): Promise<void> {
  const systemd = await hasSystemd();
  await mkdir(PKI, { recursive: true, mode: 0o755 });
  const qemuGroup = await groupId('libvirt-qemu');
  let changed = false;
  for (const { path, mode, content, forQemu } of await wantedFiles(input, systemd)) {
    changed = (await replaceFile(path, content, mode)) || changed;
    if (forQemu && qemuGroup !== undefined) await chown(path, 0, qemuGroup);
    if (path.startsWith(QEMU_PKI) || path.startsWith(PKI)) await chmod(path, mode);
  }
  if (!changed) return;
  if (systemd) {
    await runProgram('systemctl', ['daemon-reload']);
    // libvirtd takes its TLS port over from systemd, and the socket can only start while libvirtd is stopped.
    await runProgram('systemctl', ['stop', 'libvirtd.service'], { timeoutMs: 60_000 });
    await runProgram('systemctl', ['enable', 'libvirtd-tls.socket']);
    await runProgram('systemctl', ['restart', 'libvirtd-tls.socket']);
  }
  await restartLibvirt(libvirt);
}

export async function ensureUnconfigured(libvirt: Libvirt): Promise<void> {
  const systemd = await hasSystemd();
  let changed = false;
  for (const { path, mode } of ALL_FILES) changed = (await restoreFile(path, mode)) || changed;
  await rm(PKI, { recursive: true, force: true });
  for (const directory of [QEMU_PKI, dirname(QEMU_PKI), dirname(TLS_SOCKET_DROP_IN)]) {
    await rmdir(directory).catch(() => {}); // it may hold what is not ours
  }
  if (!changed) return;
  if (systemd) {
    await runProgram('systemctl', ['stop', 'libvirtd.service'], { timeoutMs: 60_000 });
    await runProgram('systemctl', ['disable', '--now', 'libvirtd-tls.socket']);
    await runProgram('systemctl', ['daemon-reload']);
  }
  await restartLibvirt(libvirt);
}

async function restartLibvirt(libvirt: Libvirt): Promise<void> {
  const old = await libvirt.session().catch(() => undefined);
  await restartService('libvirtd');
  const deadline = Date.now() + RESTART_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const session = await libvirt.session().catch(() => undefined);
    const answers = session && session !== old && (await session.version().catch(() => undefined));
    if (answers) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Problem(
    'BACKEND_UNAVAILABLE',
    `libvirtd did not come back within ${RESTART_TIMEOUT_MS / 1000} s of its restart`,
    true,
  );
}

async function groupId(name: string): Promise<number | undefined> {
  const groups = (await readIfExists('/etc/group')) ?? '';
  const fields = groups
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
    ?.split(':');
  return fields?.[2] === undefined ? undefined : Number(fields[2]);
}
