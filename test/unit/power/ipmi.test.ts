/** IPMI by `ipmitool` against OpenIPMI's `ipmi_sim`, where both are installed: `apt-get install ipmitool openipmi`. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Bmc } from '../../../activities/platform/power/driver.ts';
import { ipmi } from '../../../activities/platform/power/ipmi.ts';
import { hasIpmiSim, prepareIpmiSim } from '../../../lab/ipmiSim.ts';
import { Problem } from '../../../runtime/problem.ts';

const isThere = hasIpmiSim() && spawnSync('ipmitool', ['-V'], { stdio: 'ignore' }).error === undefined;
if (!isThere) console.log('skipped: IPMI against ipmi_sim, because ipmitool or openipmi is not installed');

const password = `it's "so" $HOME`;
const directory = mkdtempSync(join(tmpdir(), 'belay-ipmi-'));
const machine = join(directory, 'on');
let bmc: Bmc;
let simulator: ChildProcess | undefined;
const soon = (): AbortSignal => AbortSignal.timeout(30_000);

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

const failure = async (work: Promise<unknown>): Promise<[string, string]> => {
  const error = await work.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Problem)) throw error;
  return [error.code, error.message.replace(/^the BMC at 127\.0\.0\.1 \(port \d+\) /, '')];
};

afterAll(() => {
  simulator?.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(!isThere)('a BMC that speaks IPMI', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    const port = await freePort();
    bmc = { address: '127.0.0.1', port, user: 'admin', password: 'first', certificate: null, system: null };
    const power = { isOn: `[ -e ${machine} ]`, on: `touch ${machine}`, off: `rm ${machine}` };
    const [command = '', ...argv] = prepareIpmiSim({
      directory,
      address: bmc.address,
      port,
      user: bmc.user,
      password: bmc.password,
      power,
    });
    simulator = spawn(command, argv, { stdio: 'ignore' });
    for (;;)
      try {
        await ipmi.state(bmc, soon());
        return;
      } catch (error) {
        if (!(error instanceof Problem) || error.status < 500) throw error;
      }
  });
  beforeEach(() => writeFileSync(machine, ''));

  test('the power is told, switched off and on, softly off, and reset', async () => {
    expect(await ipmi.certificate(bmc, soon())).toBeNull();
    expect(await ipmi.state(bmc, soon())).toBe('on');
    await ipmi.command(bmc, 'off', soon());
    expect([existsSync(machine), await ipmi.state(bmc, soon())]).toEqual([false, 'off']);
    await ipmi.command(bmc, 'on', soon());
    expect(existsSync(machine)).toBe(true);
    await ipmi.command(bmc, 'softOff', soon());
    expect(existsSync(machine)).toBe(false);
  });

  test('a wrong name and a wrong password are told apart from silence', async () => {
    const refused = (user: string): [string, string] => [
      'PRECONDITION_FAILED',
      `refuses user ${user}: its name, its password or its rights are wrong`,
    ];
    expect(await failure(ipmi.state({ ...bmc, password: 'wrong' }, soon()))).toEqual(refused('admin'));
    expect(await failure(ipmi.state({ ...bmc, user: 'nobody' }, soon()))).toEqual(refused('nobody'));
    expect(await failure(ipmi.state({ ...bmc, port: 9 }, AbortSignal.timeout(1_000)))).toEqual([
      'BACKEND_UNAVAILABLE',
      'does not answer: no answer in time',
    ]);
  });

  test('what looks like an option, or like a shell, is neither', async () => {
    for (const user of ['-H127.0.0.2', '$(id)', '`id`'])
      expect((await failure(ipmi.state({ ...bmc, user }, soon())))[0]).toBe('PRECONDITION_FAILED');
  });

  test('a password is on no command line while it is used, nor when it is changed', async () => {
    const lines = new Set<string>();
    const looking = setInterval(() => {
      for (const pid of readdirSync('/proc'))
        if (/^\d+$/.test(pid))
          try {
            const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
            if (line.startsWith('ipmitool')) lines.add(line);
          } catch {}
    }, 1);
    try {
      await ipmi.changePassword(bmc, password, soon());
      expect(await ipmi.state({ ...bmc, password }, soon())).toBe('on');
    } finally {
      clearInterval(looking);
    }
    expect((await failure(ipmi.state(bmc, soon())))[0]).toBe('PRECONDITION_FAILED');
    expect(lines.size).toBeGreaterThan(0);
    const bytes = Buffer.from(password).toString('hex');
    for (const line of lines)
      for (const secret of [password, 'first', bytes, '0x69']) expect(line).not.toContain(secret);
    await ipmi.changePassword({ ...bmc, password }, bmc.password, soon());
  });
});

test('where the program is missing, that is what is said', async () => {
  const path = process.env.PATH;
  process.env.PATH = directory;
  try {
    const anywhere = { address: '127.0.0.1', port: 9, user: 'x', password: 'y', certificate: null, system: null };
    expect((await failure(ipmi.state(anywhere, soon())))[1]).toMatch(/ipmitool is not installed/);
  } finally {
    process.env.PATH = path;
  }
});
