import { setTimeout as delay } from 'node:timers/promises';
import { bundleAgent } from './bundle.ts';
import { AGENT_SOCKET, AgentError, type HostConnection, type HostShell } from './connection.ts';

/**
 * How the agent gets onto a host, with nothing there but SSH. Every function may run again, and every undo may run when its do
 * never did; what an undo needs to know the host itself remembers. Simulated hosts come with all of it.
 */

/** What a Debian host needs; the libvirt packages bring GnuTLS, which encrypts migrations. */
export const HOST_PACKAGES = [
  'libvirt-daemon',
  'libvirt-daemon-system',
  'libvirt-daemon-driver-qemu',
  'libvirt-clients',
  'qemu-system-x86',
  'qemu-utils',
  'qemu-block-extra',
  'openvswitch-switch',
  'ovn-host',
  'ceph-common',
  'python3-rados',
  'python3-rbd',
  'genisoimage',
  'util-linux',
] as const;

const MINIMUM_NODE = 18;
const LIBRARY = '/usr/local/lib/belay';
const CURRENT = `${LIBRARY}/agent.js`;
const PREVIOUS = `${LIBRARY}/previous.js`;
const STATE = '/var/lib/belay';
const CONFIGURATION = '/etc/belay';
/** Packages that were not there before Belay came, one per line. */
const INSTALLED_RECORD = `${STATE}/installed-packages`;
/** Whose orders the agent refuses (`agent/fenceFile.ts`). */
const FENCE = `${STATE}/fence.json`;
const UNIT = '/etc/systemd/system/belay-agent.service';
/** A host without systemd may have this supervisor: it runs each executable of the directory and starts it again when it ends. */
const INIT_DIRECTORY = '/etc/belay-init.d';
const INIT_SCRIPT = `${INIT_DIRECTORY}/belay-agent`;

const APT_TIMEOUT_MS = 15 * 60_000;
const HEALTH_TIMEOUT_MS = 20_000;
/** A host may be installing packages by itself just now; apt waits for its lock this long. */
const APT_LOCK_SECONDS = 300;
const APT = [
  ...['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', '-y'],
  ...['-o', `DPkg::Lock::Timeout=${APT_LOCK_SECONDS}`],
];

export interface InstallFacts {
  hostname: string;
  machineId: string;
  os: string;
  kernel: string;
  architecture: 'x86_64' | 'aarch64';
  cpuModel: string;
  vcpus: number;
  memoryMib: number;
  /** Version of the host's Node.js; null when it has none. */
  node: string | null;
  serviceManager: 'systemd' | 'belay-init' | null;
  /** Packages that `installPackages` would install. */
  missingPackages: string[];
  /** Version of the installed agent; null when there is none. */
  agent: string | null;
}

export interface InstallOptions {
  signal?: AbortSignal;
}

// What runs on the host before there is an agent: plain shell, with no outside value in it.
const FACTS_SCRIPT = `
. /etc/os-release 2>/dev/null
echo "hostname=$(hostname)"
echo "machineId=$(cat /etc/machine-id 2>/dev/null)"
echo "os=$PRETTY_NAME"
echo "osFamily=$ID $ID_LIKE"
echo "kernel=$(uname -r)"
echo "architecture=$(uname -m)"
echo "cpuModel=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
echo "vcpus=$(getconf _NPROCESSORS_ONLN)"
echo "memoryKib=$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)"
echo "node=$(node --version 2>/dev/null)"
echo "user=$(id -u)"
if [ -d /run/systemd/system ]; then echo serviceManager=systemd; elif [ -d ${INIT_DIRECTORY} ]; then echo serviceManager=belay-init; fi
echo "agent=$(readlink ${CURRENT} 2>/dev/null)"
dpkg-query -W -f 'package=\${db:Status-Abbrev} \${Package}\\n' ${HOST_PACKAGES.join(' ')} nodejs 2>/dev/null
true
`;

interface RawFacts {
  facts: InstallFacts;
  isDebian: boolean;
  isRoot: boolean;
}

/** Reads the answers of the facts script, `name=value` lines. */
export function parseFacts(text: string): RawFacts {
  const values = new Map<string, string>();
  const present = new Set<string>();
  for (const line of text.split('\n')) {
    const [, name = '', value = ''] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (name === 'package') {
      const [status, ...rest] = value.split(' ').filter((word) => word !== '');
      if (status?.startsWith('ii')) present.add(rest.join(''));
    } else if (name !== '') values.set(name, value.trim());
  }
  const value = (name: string) => values.get(name) ?? '';
  const node = value('node').replace(/^v/, '') || null;
  const architecture = value('architecture') === 'aarch64' ? 'aarch64' : 'x86_64';
  const wanted = HOST_PACKAGES.map((name) => packageFor(name, architecture));
  const missingPackages = wanted.filter((name) => !present.has(name));
  if (node === null || Number.parseInt(node, 10) < MINIMUM_NODE) missingPackages.push('nodejs');
  const serviceManager = value('serviceManager');
  return {
    facts: {
      hostname: value('hostname'),
      machineId: value('machineId'),
      os: value('os'),
      kernel: value('kernel'),
      architecture,
      cpuModel: value('cpuModel'),
      vcpus: Number(value('vcpus')),
      memoryMib: Math.floor(Number(value('memoryKib')) / 1024),
      node,
      serviceManager: serviceManager === 'systemd' || serviceManager === 'belay-init' ? serviceManager : null,
      missingPackages,
      agent: /agent-([0-9a-f]+)\.js$/.exec(value('agent'))?.[1] ?? null,
    },
    isDebian: /\b(debian|ubuntu)\b/.test(value('osFamily')),
    isRoot: value('user') === '0',
  };
}

function packageFor(name: string, architecture: InstallFacts['architecture']): string {
  if (architecture === 'x86_64') return name;
  return name === 'qemu-system-x86' ? 'qemu-system-arm' : name;
}

/** Runs a command that must succeed. @throws AgentError BACKEND_UNAVAILABLE with its last words. */
async function must(
  connection: HostConnection,
  shell: HostShell,
  argv: string[],
  options: { timeoutMs?: number; signal?: AbortSignal; input?: string } = {},
): Promise<string> {
  const { code, stdout, stderr } = await shell.run(argv, options);
  if (code === 0) return stdout;
  const lastWords = (stderr.trim() || stdout.trim()).split('\n').slice(-3).join(' ');
  throw new AgentError(
    'BACKEND_UNAVAILABLE',
    `${argv[0]} on ${connection.host} failed: ${lastWords}`,
    true,
    connection.host,
  );
}

/** Runs a script of ours through the host's shell; values reach it as arguments `$1`, `$2`, never inside its text. */
function script(connection: HostConnection, shell: HostShell, text: string, ...values: string[]): Promise<string> {
  return must(connection, shell, ['sh', '-ec', text, 'sh', ...values]);
}

async function readRawFacts(connection: HostConnection, shell: HostShell): Promise<RawFacts> {
  return parseFacts(await must(connection, shell, ['sh', '-c', FACTS_SCRIPT]));
}

/** What the host is, before anything is installed. */
export async function readFacts(connection: HostConnection): Promise<InstallFacts> {
  if (connection.shell) return (await readRawFacts(connection, connection.shell)).facts;
  const { hostname, machineId, os, kernel, architecture, cpuModel, vcpus, memoryMib, versions } = await connection.call(
    'host.facts',
    {},
  );
  const simulated = { node: versions.node, serviceManager: null, missingPackages: [], agent: versions.agent };
  return { hostname, machineId, os, kernel, architecture, cpuModel, vcpus, memoryMib, ...simulated };
}

/**
 * Installs what is missing, and writes down on the host what that was.
 *
 * @throws AgentError NOT_SUPPORTED when the host is no Debian, PRECONDITION_FAILED when the login is not root's.
 */
export async function installPackages(
  connection: HostConnection,
  { signal }: InstallOptions = {},
): Promise<{ installed: string[] }> {
  const { shell, host } = connection;
  if (!shell) return { installed: [] };
  const { facts, isDebian, isRoot } = await readRawFacts(connection, shell);
  if (!isRoot) throw new AgentError('PRECONDITION_FAILED', `the login at ${host} is not root's`, false, host);
  if (facts.missingPackages.length === 0) return { installed: [] };
  if (!isDebian) {
    const missing = facts.missingPackages.join(', ');
    throw new AgentError(
      'NOT_SUPPORTED',
      `${host} runs ${facts.os}; packages are installed on Debian only, and these are missing: ${missing}`,
      false,
      host,
    );
  }
  // Written before the act: an interrupted installation is known to the undo. With what apt brings along.
  await recordInstalled(connection, shell, await packagesToCome(connection, shell, facts.missingPackages));
  const options = { timeoutMs: APT_TIMEOUT_MS, ...(signal ? { signal } : {}) };
  await must(connection, shell, [...APT, 'update'], options);
  await must(connection, shell, [...APT, 'install', '--no-install-recommends', ...facts.missingPackages], options);
  return { installed: facts.missingPackages };
}

async function packagesToCome(connection: HostConnection, shell: HostShell, packages: string[]): Promise<string[]> {
  const { stdout } = await shell.run(['apt-get', '-s', 'install', '--no-install-recommends', ...packages]);
  const simulated = [...stdout.matchAll(/^Inst (\S+) (\[)?/gm)];
  // `Inst name [old version]` is an upgrade of what was there: it must stay when Belay goes.
  const coming = simulated.filter((match) => match[2] === undefined).map((match) => match[1] ?? '');
  if (stdout === '')
    throw new AgentError('BACKEND_UNAVAILABLE', `apt-get on ${connection.host} does not answer`, true, connection.host);
  return [...new Set([...packages, ...coming])];
}

async function recordInstalled(connection: HostConnection, shell: HostShell, packages: string[]): Promise<void> {
  await script(
    connection,
    shell,
    `mkdir -p ${STATE}; record=$1; shift; { cat "$record" 2>/dev/null || true; printf '%s\\n' "$@"; } | sort -u > "$record.part"; mv "$record.part" "$record"`,
    INSTALLED_RECORD,
    ...packages,
  );
}

/** Removes exactly the packages that `installPackages` brought, and its record of them. */
export async function removeInstalledPackages(connection: HostConnection): Promise<void> {
  const { shell } = connection;
  if (!shell) return;
  const { stdout } = await shell.run(['cat', INSTALLED_RECORD]);
  const packages = stdout.split('\n').filter((name) => /^[a-z0-9][a-z0-9+.:-]*$/.test(name));
  if (packages.length > 0) {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills these in
    const status = await shell.run(['dpkg-query', '-W', '-f', '${db:Status-Abbrev} ${Package}\\n', ...packages]);
    const present = status.stdout
      .split('\n')
      .filter((line) => line.startsWith('i'))
      .map((line) => line.split(' ').at(-1) ?? '');
    if (present.length > 0) await purge(connection, shell, present);
  }
  await script(connection, shell, `rm -f ${INSTALLED_RECORD}; rmdir ${STATE} 2>/dev/null || true`);
}

async function purge(connection: HostConnection, shell: HostShell, packages: string[]): Promise<void> {
  const simulated = await must(connection, shell, ['apt-get', '-s', 'purge', ...packages]);
  const going = [...simulated.matchAll(/^(?:Purg|Remv) (\S+)/gm)].map((match) => match[1] ?? '');
  const others = going.filter((name) => !packages.includes(name));
  if (others.length > 0) {
    const message = `${others.join(', ')} on ${connection.host} came later and need what Belay installed; remove them first`;
    throw new AgentError('PRECONDITION_FAILED', message, false, connection.host);
  }
  await must(connection, shell, [...APT, 'purge', ...packages], { timeoutMs: APT_TIMEOUT_MS });
}

/** The service for systemd. */
export function systemdUnit(): string {
  return `[Unit]
Description=Belay host agent
After=network-online.target libvirtd.service openvswitch-switch.service
Wants=network-online.target

[Service]
ExecStart=/usr/bin/env node ${CURRENT} ${AGENT_SOCKET}
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=10

[Install]
WantedBy=multi-user.target
`;
}

const INIT_SCRIPT_TEXT = `#!/bin/sh\nexec node ${CURRENT} ${AGENT_SOCKET}\n`;

/**
 * Puts this version of the agent beside the one that is there, switches the service over and waits until it answers. When it
 * does not, the host goes back to the version before. Nothing happens when this version runs already.
 *
 * @throws AgentError PRECONDITION_FAILED when the host has no Node.js or nothing to run a service with.
 */
export async function installAgent(
  connection: HostConnection,
  { signal }: InstallOptions = {},
): Promise<{ version: string; previousVersion: string | null }> {
  const { shell, host } = connection;
  if (!shell) return { version: (await connection.health()).agent, previousVersion: null };
  const { code, version } = await bundleAgent();
  const { facts } = await readRawFacts(connection, shell);
  if (facts.node === null || Number.parseInt(facts.node, 10) < MINIMUM_NODE) {
    throw new AgentError(
      'PRECONDITION_FAILED',
      `${host} has ${facts.node ? `Node.js ${facts.node}` : 'no Node.js'}; ${MINIMUM_NODE} or newer is needed`,
      false,
      host,
    );
  }
  if (facts.serviceManager === null) {
    throw new AgentError(
      'PRECONDITION_FAILED',
      `${host} has neither systemd nor ${INIT_DIRECTORY} to run the agent with`,
      false,
      host,
    );
  }
  signal?.throwIfAborted();
  if (facts.agent !== version) {
    await script(connection, shell, `mkdir -p ${LIBRARY} ${STATE}; chmod 700 ${STATE}`);
    await shell.upload(`${LIBRARY}/agent-${version}.js`, code, 0o644);
    await pointTo(connection, shell, `agent-${version}.js`, facts.agent === null ? null : `agent-${facts.agent}.js`);
  }
  const isCleared = await clearUnreadableFence(connection, shell);
  await startService(connection, shell, facts.serviceManager, isCleared || facts.agent !== version);
  try {
    await untilHealthy(connection, version, signal);
  } catch (error) {
    if (facts.agent === null) await removeAgent(connection);
    else if (facts.agent !== version) await revertAgent(connection);
    throw error;
  }
  await removeOtherVersions(connection, shell);
  return { version, previousVersion: facts.agent === version ? null : facts.agent };
}

const READS_FENCE = `try {
  const { leases, steps } = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));
  if (!leases || !steps) throw new Error();
} catch (error) {
  process.exit(error.code === 'ENOENT' ? 0 : 3);
}`;

/**
 * An agent that can not read whom it refused does nothing any more. A person who connects the host again vouches that nobody who was
 * suspended is still about; the file is kept beside.
 */
async function clearUnreadableFence(connection: HostConnection, shell: HostShell): Promise<boolean> {
  const { code } = await shell.run(['node', '-e', READS_FENCE, FENCE]);
  if (code !== 3) return false;
  await must(connection, shell, ['mv', '-f', FENCE, `${FENCE}.unreadable`]);
  return true;
}

/** Both links in one command each way: the service always finds a whole file behind its link. */
async function pointTo(
  connection: HostConnection,
  shell: HostShell,
  current: string,
  previous: string | null,
): Promise<void> {
  const remember = previous === null ? `rm -f ${PREVIOUS}` : `ln -sfn "$2" ${PREVIOUS}`;
  await script(
    connection,
    shell,
    `${remember}; ln -sfn "$1" ${CURRENT}.part; mv -T ${CURRENT}.part ${CURRENT}`,
    current,
    previous ?? '',
  );
}

async function startService(
  connection: HostConnection,
  shell: HostShell,
  manager: 'systemd' | 'belay-init',
  restart: boolean,
): Promise<void> {
  if (manager === 'systemd') {
    await shell.upload(UNIT, systemdUnit(), 0o644);
    await must(connection, shell, ['systemctl', 'daemon-reload']);
    await must(connection, shell, ['systemctl', 'enable', '--quiet', 'belay-agent.service']);
    await must(connection, shell, ['systemctl', restart ? 'restart' : 'start', 'belay-agent.service']);
    return;
  }
  const { code } = await shell.run(['test', '-x', INIT_SCRIPT]);
  if (code !== 0) await shell.upload(INIT_SCRIPT, INIT_SCRIPT_TEXT, 0o755);
  else if (restart) await must(connection, shell, ['/usr/local/sbin/belay-service', 'restart', 'belay-agent']);
}

async function untilHealthy(
  connection: HostConnection,
  version: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = Date.now() + HEALTH_TIMEOUT_MS;
  let found = 'nothing answers';
  while (Date.now() < deadline) {
    signal?.throwIfAborted();
    const health = await connection.health({ timeoutMs: 5_000 }).catch((error: Error) => {
      found = error.message;
      return undefined;
    });
    if (health?.agent === version) return;
    if (health) found = `version ${health.agent} answers`;
    await delay(100);
  }
  const { host } = connection;
  throw new AgentError(
    'BACKEND_UNAVAILABLE',
    `agent ${version} did not come up on ${host} within ${HEALTH_TIMEOUT_MS / 1000} s: ${found}`,
    true,
    host,
  );
}

async function removeOtherVersions(connection: HostConnection, shell: HostShell): Promise<void> {
  await script(
    connection,
    shell,
    `cd ${LIBRARY} 2>/dev/null || exit 0; for file in agent-*.js; do [ "$file" = "$(readlink agent.js)" ] || [ "$file" = "$(readlink previous.js)" ] || rm -f "$file"; done`,
  );
}

/**
 * The undo of an upgrade: back to the version that `installAgent` replaced. Without one, because nothing was replaced or
 * `settleAgent` has been there, nothing happens; the undo of a first installation is `removeAgent`.
 */
export async function revertAgent(connection: HostConnection): Promise<void> {
  const { shell } = connection;
  if (!shell) return;
  const { stdout } = await shell.run(['readlink', PREVIOUS]);
  const previous = /^agent-([0-9a-f]+)\.js$/.exec(stdout.trim());
  const { facts } = await readRawFacts(connection, shell);
  if (previous === null || previous[1] === undefined || facts.serviceManager === null) return;
  if (previous[1] !== facts.agent) {
    await pointTo(connection, shell, previous[0], null);
    await startService(connection, shell, facts.serviceManager, true);
    await untilHealthy(connection, previous[1], undefined);
  }
  await removeOtherVersions(connection, shell);
}

/** Ends an upgrade that is kept: the version before goes, and `revertAgent` has nothing to go back to. */
export async function settleAgent(connection: HostConnection): Promise<void> {
  const { shell } = connection;
  if (!shell) return;
  await script(connection, shell, `rm -f ${PREVIOUS}`);
  await removeOtherVersions(connection, shell);
}

/**
 * Stops the agent and removes it; guests run on. What it configured (libvirt, the switch, storage) has undo calls of its own
 * that come before: taking away a certificate under a configured libvirtd would keep it from starting.
 */
export async function removeAgent(connection: HostConnection): Promise<void> {
  const { shell } = connection;
  if (!shell) return;
  await script(
    connection,
    shell,
    `
if [ -d /run/systemd/system ] && [ -e ${UNIT} ]; then
  systemctl disable --quiet --now belay-agent.service || true
  rm -f ${UNIT}
  systemctl daemon-reload
fi
if [ -e ${INIT_SCRIPT} ]; then
  rm -f ${INIT_SCRIPT}
  turns=0
  while [ -S ${AGENT_SOCKET} ] && [ $turns -lt 100 ]; do sleep 0.1; turns=$((turns + 1)); done
fi
rm -rf ${LIBRARY} /run/belay ${STATE}/kvm.json ${STATE}/heartbeat.json ${STATE}/imports ${FENCE} ${FENCE}.part ${FENCE}.unreadable
for directory in ${CONFIGURATION} ${STATE}; do
  [ ! -d $directory ] || find $directory -depth -type d -empty -delete 2>/dev/null || true
done
`,
  );
}

export interface AuthorizedKey {
  /** One line in OpenSSH's form, `ssh-ed25519 AAAA…`; a comment in it is replaced. */
  publicKey: string;
  /** Finds the line again. */
  comment: string;
}

const KEY = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?: .*)?$/;
const COMMENT = /^[A-Za-z0-9][A-Za-z0-9@._:-]{0,127}$/;

/** The file with this key under its comment, other lines untouched. */
export function withKey(authorizedKeys: string, { publicKey, comment }: AuthorizedKey): string {
  const [, type, key] = KEY.exec(publicKey.trim()) ?? [];
  return `${withoutKey(authorizedKeys, comment)}${type} ${key} ${comment}\n`;
}

export function withoutKey(authorizedKeys: string, comment: string): string {
  const lines = authorizedKeys
    .split('\n')
    .filter((line) => line !== '' && !(KEY.test(line) && line.endsWith(` ${comment}`)));
  return lines.map((line) => `${line}\n`).join('');
}

/** Lets the platform's own key in. A key that was there under the same comment is replaced. */
export async function authorizeKey(connection: HostConnection, key: AuthorizedKey): Promise<void> {
  if (!KEY.test(key.publicKey.trim()) || !COMMENT.test(key.comment)) {
    throw new AgentError(
      'INVALID_ARGUMENT',
      'this is no public key, or no comment to find it again by',
      false,
      connection.host,
    );
  }
  await editKeys(connection, (content) => withKey(content, key));
}

export async function removeKey(
  connection: HostConnection,
  { comment }: Pick<AuthorizedKey, 'comment'>,
): Promise<void> {
  await editKeys(connection, (content) => withoutKey(content, comment));
}

async function editKeys(connection: HostConnection, edit: (content: string) => string): Promise<void> {
  const { shell } = connection;
  if (!shell) return;
  const directory = `${(await must(connection, shell, ['printenv', 'HOME'])).trim()}/.ssh`;
  const path = `${directory}/authorized_keys`;
  const { code, stdout } = await shell.run(['cat', path]);
  const before = code === 0 ? stdout : '';
  const after = edit(before);
  if (after === before) return;
  await script(connection, shell, 'mkdir -p "$1"; chmod 700 "$1"', directory);
  await shell.upload(path, after, 0o600);
}
