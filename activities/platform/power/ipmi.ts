/**
 * IPMI 2.0 by `ipmitool`, which has to be on the machine of the worker. The password is in its environment, which nobody but its own user can read, and a
 * new one goes in by its input: neither is ever on a command line.
 */
import { spawn } from 'node:child_process';
import { ipmiLongest, type PowerCommand } from '../../../model/platform/power.ts';
import { Problem } from '../../../runtime/problem.ts';
import { type Bmc, noRights, type PowerDriver, refused, silent, wrongAnswer, wrongPassword } from './driver.ts';

/** What it says is a line; a list of users is 64. */
const mostBytes = 65_536;
/** Cipher suites of RMCP+ that hide what is said: with SHA-256, and, for older BMCs, with SHA-1. */
const suites = [17, 3] as const;

interface Ended {
  code: number | null;
  output: string;
  errors: string;
}

/** Runs it to its end. `signal` kills it. */
function run(bmc: Bmc, suite: number, argv: readonly string[], input: string, signal: AbortSignal): Promise<Ended> {
  const whole = ['-v', '-I', 'lanplus', '-H', bmc.address, '-p', String(bmc.port), '-U', bmc.user, '-E'];
  return new Promise((resolve, reject) => {
    const child = spawn('ipmitool', [...whole, '-N', '1', '-R', '3', '-C', String(suite), ...argv], {
      env: {
        PATH: process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LC_ALL: 'C',
        IPMI_PASSWORD: bmc.password,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL',
    });
    let output = '';
    let errors = '';
    const tooMuch = (): void => {
      if (output.length + errors.length > mostBytes) child.kill('SIGKILL');
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      tooMuch();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
      tooMuch();
    });
    child.stdin.on('error', () => {}); // it may end without reading; how it ended tells
    child.stdin.end(input);
    child.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ENOENT'
          ? new Problem(
              'PRECONDITION_FAILED',
              'ipmitool is not installed on the machine of this worker, and BMCs that speak IPMI are reached by nothing else: install the package ipmitool there',
            )
          : error.name === 'AbortError'
            ? silent(bmc, 'no answer in time')
            : error,
      ),
    );
    child.on('close', (code) => resolve({ code, output, errors }));
  });
}

/** What it answers. @throws Problem that says what is wrong in plain words; never in those of the tool, which may hold what it was given */
async function ask(bmc: Bmc, argv: readonly string[], signal: AbortSignal, input = ''): Promise<string> {
  for (const suite of suites) {
    const { code, output, errors } = await run(bmc, suite, argv, input, signal);
    if (output.length + errors.length > mostBytes) throw wrongAnswer(bmc, 'it says more than any BMC has to say');
    if (code === 0) return output;
    if (/RAKP 2 HMAC is invalid/i.test(errors)) throw wrongPassword(bmc);
    if (/unauthorized name|unauthorized role|invalid role|insufficient privilege/i.test(errors)) throw noRights(bmc);
    const isOtherSuite = /invalid (authentication|integrity|confidentiality) algorithm|no matching cipher suite/i.test(
      errors,
    );
    if (isOtherSuite && suite !== suites.at(-1)) continue;
    if (isOtherSuite) throw refused(bmc, 'it knows no cipher suite that is safe to use (17 or 3)');
    if (/Get Auth Capabilities error|Unable to establish IPMI v2|session timeout|No response/i.test(errors))
      throw silent(bmc, 'nothing came back');
    if (/not supported in present state|command not supported|invalid data field/i.test(errors))
      throw refused(bmc, 'it can not do that, or not now');
    throw wrongAnswer(bmc, `ipmitool ended with ${code ?? 'a signal'}`);
  }
  throw silent(bmc, 'nothing came back');
}

const words = {
  on: 'on',
  off: 'off',
  cycle: 'cycle',
  reset: 'reset',
  softOff: 'soft',
} as const satisfies Record<PowerCommand, string>;

/** Set User Password (IPMI 2.0, 22.30), of 20 bytes. */
function passwordMessage(userId: number, password: string): string {
  const bytes = Buffer.alloc(ipmiLongest.password);
  bytes.write(password, 'utf8');
  const message = [0x06, 0x47, 0x80 | userId, 0x02, ...bytes];
  return `raw ${message.map((byte) => `0x${byte.toString(16).padStart(2, '0')}`).join(' ')}\nexit\n`;
}

export const ipmi: PowerDriver = {
  certificate: async () => null,

  async state(bmc, signal) {
    const output = await ask(bmc, ['chassis', 'power', 'status'], signal);
    const [, found] = /^Chassis Power is (on|off)\s*$/im.exec(output) ?? [];
    if (!found) throw wrongAnswer(bmc, 'it does not say whether the power is on');
    return found.toLowerCase() as 'on' | 'off';
  },

  async command(bmc, command, signal) {
    await ask(bmc, ['chassis', 'power', words[command]], signal);
  },

  async changePassword(bmc, password, signal) {
    const list = await ask(bmc, ['-c', 'user', 'list'], signal);
    const id = list
      .split('\n')
      .map((line) => line.split(','))
      .find(([, name]) => name === bmc.user)?.[0];
    if (id === undefined || !/^([1-9]|[1-5]\d|6[0-3])$/.test(id))
      throw wrongAnswer(bmc, `it lists no user ${bmc.user}`);
    // How its shell ends says nothing of what was done in it.
    await ask(bmc, ['shell'], signal, passwordMessage(Number(id), password));
    await ask({ ...bmc, password }, ['chassis', 'power', 'status'], signal);
  },
};
