import type { Lab } from '../../lab/real/lab.ts';

/** Written by the host's own daemons at any time. */
const restless =
  /^\/etc\/openvswitch\/(conf\.db|\.conf\.db)|\.lock$|^\/root\/\.(cache|ceph)|^\/etc\/(mtab|resolv\.conf)/;

/** Every file that an administrator would see in a host's configuration, with the digest of its content. */
export async function hostFiles(lab: Lab, host: number): Promise<string[]> {
  const directories = ['/etc', '/root', '/usr/local', '/opt', '/srv', '/var/lib/belay', '/run/belay'];
  const { stdout } = await lab.execHost(host, ['find', ...directories, '-type', 'f', '-exec', 'sha256sum', '{}', '+']);
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !restless.test(line.slice(66)))
    .map((line) => `${line.slice(66)} ${line.slice(0, 12)}`)
    .sort();
}
