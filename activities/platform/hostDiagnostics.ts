/** What people ask a host first when something is wrong with it, collected in one place. */
import { Context } from '@temporalio/activity';
import { entryOf } from '../../database/credentials.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { connectHost, type HostConnection } from '../../host-agent/connection.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { sshKeyOf } from './credentials.ts';

/** Of each the end is kept: it is what was said last. The whole goes through the operation's history. */
const longestPart = 6_000;
const commandMs = 10_000;
/** All are asked side by side, and what has come by then is told. */
const allMs = 60_000;

/** Nothing of what users have named is in these lines, and none asks for a secret. */
const commands: Readonly<Record<string, readonly string[]>> = {
  uptime: ['uptime'],
  memory: ['free', '-m'],
  disks: ['df', '-h'],
  addresses: ['ip', '-brief', 'address'],
  kernel: ['dmesg', '--ctime', '--level', 'err,warn'],
  agent: ['journalctl', '-u', 'belay-agent', '-n', '80', '--no-pager', '-o', 'short-iso'],
  libvirt: ['journalctl', '-u', 'libvirtd', '-n', '40', '--no-pager', '-o', 'short-iso'],
  guests: ['virsh', '-c', 'qemu:///system', 'list', '--all'],
  switch: ['ovs-vsctl', 'show'],
  ovnController: ['journalctl', '-u', 'ovn-controller', '-n', '40', '--no-pager', '-o', 'short-iso'],
};

export interface Diagnostics {
  /** By name, the end of what was said; or why there is nothing. */
  parts: Record<string, string>;
}

/** What a word that names a secret ends with: `IPMI_PASSWORD`, `sshPassword`, `api_key`, `"privateKey"`. */
const secretName = String.raw`[\w.-]*(?:pass(?:word|phrase|wd)?|secret|token|credentials?|api[_-]?key|access[_-]?key|private[_-]?key|key)`;
/** In quotes, to the closing one; otherwise to the next space. */
const value = String.raw`(?:"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[^\s,;&}\])]+)`;
const secrets: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [^-]+-----[\s\S]*?(-----END [^-]+-----|$)/g, '***'],
  [/\b((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|digest|token)\s+)?[^\s"',]+/gi, '$1***'],
  [/\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}/gi, '$1***'],
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, '$1***@'],
  [new RegExp(`(\\b${secretName}\\\\?["']?\\s*[=:]\\s*)\\\\?${value}`, 'gi'), '$1***'],
  [new RegExp(`((?:^|\\s)--?${secretName}\\s+)${value}`, 'gim'), '$1***'],
  [/\bAQ[A-Za-z0-9+/]{36,}={0,2}/g, '***'],
];

/** A program of somebody else's may say anything: what looks like a secret is left out. */
export const withoutSecrets = (text: string): string =>
  secrets.reduce((clean, [looksLike, instead]) => clean.replaceAll(looksLike, instead), text);

export const endOf = (text: string): string => {
  const clean = withoutSecrets(text);
  return clean.length <= longestPart ? clean : `… ${clean.slice(-longestPart)}`;
};

async function ask({ shell }: HostConnection, argv: readonly string[], signal: AbortSignal): Promise<string> {
  if (!shell) return 'a simulated host has no shell';
  try {
    const { code, stdout, stderr } = await shell.run([...argv], { timeoutMs: commandMs, signal });
    return endOf(code === 0 ? stdout : `ended with ${code}: ${stderr || stdout}`);
  } catch (error) {
    // One that hangs says something of the host, too.
    if (!(error instanceof AgentError)) throw error;
    return error.message;
  }
}

export const hostDiagnostics = (world: World) => ({
  collectDiagnostics: step({
    system: 'host',
    async do({ hostId }: { hostId: string }): Promise<Diagnostics> {
      const { cancellationSignal: signal } = Context.current();
      const { database } = world;
      const [host] = await entryOf(database.connections, { hostId });
      if (!host) throw refuse('NOT_FOUND', `there is no host ${hostId}`);
      const isSimulated = host.address.startsWith('sim://');
      const connection = await connectHost({
        address: host.address,
        port: host.sshPort,
        user: host.sshUser,
        ...(host.sshHostKey === null ? {} : { hostKey: host.sshHostKey }),
        ...(isSimulated ? {} : { privateKey: (await sshKeyOf(database, hostId)).privateKey }),
      });
      try {
        const inTime = AbortSignal.any([signal, AbortSignal.timeout(allMs)]);
        const told = async (work: Promise<unknown>): Promise<string> =>
          endOf(JSON.stringify(await work.catch((error: unknown) => ({ failed: String(error) }))));
        const late = new Promise<string>((resolve) => {
          inTime.addEventListener('abort', () => resolve(`it did not answer within ${allMs / 1_000} seconds`), {
            once: true,
          });
        });
        const asked: Record<string, Promise<string>> = {
          ...Object.fromEntries(Object.entries(commands).map(([name, argv]) => [name, ask(connection, argv, inTime)])),
          health: told(connection.health({ timeoutMs: commandMs })),
          inventory: told(connection.call('host.inventory', {}, { timeoutMs: commandMs })),
        };
        const parts = Object.fromEntries(
          await Promise.all(
            Object.entries(asked).map(async ([name, answer]) => [name, await Promise.race([answer, late])] as const),
          ),
        );
        signal.throwIfAborted();
        return { parts };
      } finally {
        await connection.close();
      }
    },
  }),
});
