import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bundleAgent } from '../../../host-agent/bundle.ts';
import type { HostConnection } from '../../../host-agent/connection.ts';
import {
  authorizeKey,
  HOST_PACKAGES,
  parseFacts,
  removeKey,
  systemdUnit,
  withKey,
  withoutKey,
} from '../../../host-agent/install.ts';
import { bareHostKey, hostKeyAlgorithms, quoteArgument } from '../../../host-agent/ssh.ts';

const answers = (packages: readonly string[], more = '') => `hostname=h1
machineId=abc
os=Debian GNU/Linux 12 (bookworm)
osFamily=debian
kernel=6.1.0
architecture=x86_64
cpuModel=Some = CPU
vcpus=8
memoryKib=16384000
node=v18.20.4
user=0
serviceManager=systemd
agent=agent-0123456789ab.js
${packages.map((name) => `package=ii  ${name}`).join('\n')}
${more}`;

describe('the facts of a bare host', () => {
  it('are read, and nothing is missing when all is there', () => {
    expect(parseFacts(answers(HOST_PACKAGES))).toEqual({
      isDebian: true,
      isRoot: true,
      facts: {
        hostname: 'h1',
        machineId: 'abc',
        os: 'Debian GNU/Linux 12 (bookworm)',
        kernel: '6.1.0',
        architecture: 'x86_64',
        cpuModel: 'Some = CPU',
        vcpus: 8,
        memoryMib: 16000,
        node: '18.20.4',
        serviceManager: 'systemd',
        missingPackages: [],
        agent: '0123456789ab',
      },
    });
  });

  it('name what is missing: packages that are gone but for their configuration, and a Node that is too old', () => {
    const text = answers(HOST_PACKAGES.slice(1), `package=rc  ${HOST_PACKAGES[0]}`).replace('v18.20.4', 'v16.1.0');
    expect(parseFacts(text).facts.missingPackages).toEqual([HOST_PACKAGES[0], 'nodejs']);
  });

  it('ask for the packages of the other architecture', () => {
    const { missingPackages } = parseFacts(answers([]).replace('x86_64', 'aarch64')).facts;
    expect(missingPackages).toContain('qemu-system-arm');
    expect(missingPackages).not.toContain('qemu-system-x86');
  });
});

describe('authorized keys', () => {
  const others = 'ssh-ed25519 AAAAother admin\n# a remark\nfrom="10.0.0.1" ssh-rsa AAAAforced belay-zone\n';
  const key = { publicKey: 'ssh-ed25519 AAAAnew someone@somewhere', comment: 'belay-zone' };

  it('get one line with our comment, and lose only that', () => {
    const added = withKey(others, key);
    expect(added).toBe(`${others}ssh-ed25519 AAAAnew belay-zone\n`);
    expect(withKey(added, key)).toBe(added);
    expect(withKey(added, { ...key, publicKey: 'ssh-ed25519 AAAArotated' })).toBe(
      `${others}ssh-ed25519 AAAArotated belay-zone\n`,
    );
    expect(withoutKey(added, 'belay-zone')).toBe(others);
    expect(withoutKey(others, 'belay')).toBe(others);
  });
});

describe("the platform's key", () => {
  /** A host whose shell is this machine's, with a home of its own. */
  function hostWithHome(home: string): HostConnection {
    const shell: HostConnection['shell'] = {
      async run([program = '', ...argv]) {
        const done = spawnSync(program, argv, { encoding: 'utf8', env: { ...process.env, HOME: home } });
        return { code: done.status ?? 255, stdout: done.stdout, stderr: done.stderr };
      },
      async upload(path, content, mode) {
        writeFileSync(path, content, { mode });
      },
    };
    return { host: 'test', shell } as HostConnection;
  }

  it('goes into the home of the login and leaves it, twice each', async () => {
    const home = mkdtempSync(join(tmpdir(), 'belay-home-'));
    try {
      const host = hostWithHome(home);
      const file = join(home, '.ssh', 'authorized_keys');
      for (let turn = 0; turn < 2; turn += 1) {
        await authorizeKey(host, { publicKey: 'ssh-ed25519 AAAA x', comment: 'belay-zone' });
        expect(readFileSync(file, 'utf8')).toBe('ssh-ed25519 AAAA belay-zone\n');
      }
      expect(statSync(file).mode & 0o777).toBe(0o600);
      for (let turn = 0; turn < 2; turn += 1) {
        await removeKey(host, { comment: 'belay-zone' });
        expect(readFileSync(file, 'utf8')).toBe('');
      }
      await expect(authorizeKey(host, { publicKey: 'no key', comment: 'c' })).rejects.toThrow(/no public key/);
    } finally {
      rmSync(home, { recursive: true });
    }
  });
});

describe('SSH', () => {
  it('hands every argument over as it is', () => {
    const argv = ['a b', "it's", '$(id)', '`id`', '"', '', 'ü', '-x', 'a\nb', '\\'];
    const command = ['printf', '%s|', ...argv].map(quoteArgument).join(' ');
    expect(execFileSync('sh', ['-c', command], { encoding: 'utf8' })).toBe(argv.map((one) => `${one}|`).join(''));
  });

  it('prefers the type of the pinned key, so that a host with several keys shows the right one', () => {
    const pinned = Buffer.concat([Buffer.from([0, 0, 0, 7]), Buffer.from('ssh-rsa'), Buffer.alloc(8)]);
    expect(hostKeyAlgorithms(pinned).slice(0, 2)).toEqual(['rsa-sha2-512', 'rsa-sha2-256']);
    expect(hostKeyAlgorithms(undefined)[0]).toBe('ssh-ed25519');
    expect(bareHostKey('ssh-ed25519 AAAA comment')).toBe('AAAA');
    expect(bareHostKey('AAAA')).toBe('AAAA');
  });
});

describe('the bundle', () => {
  it('is one file that its version describes', async () => {
    const { code, version } = await bundleAgent();
    expect(version).toMatch(/^[0-9a-f]{12}$/);
    expect(code).toContain('librados and librbd for the agent');
    expect(code).not.toContain('require("typebox');
    expect(systemdUnit()).toContain('ExecStart=/usr/bin/env node /usr/local/lib/belay/agent.js /run/belay/agent.sock');
  });
});
