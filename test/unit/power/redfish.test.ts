/** Redfish against a BMC that speaks it over HTTPS: what it is asked, and what becomes of BMCs that behave badly. */
import { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Bmc, WrongPassword } from '../../../activities/platform/power/driver.ts';
import { redfish } from '../../../activities/platform/power/redfish.ts';
import { type BmcMishap, createRedfish, type RedfishServer } from '../../../lab/redfish.ts';
import { Problem } from '../../../runtime/problem.ts';

let isOn: boolean;
let done: string[];
let mishap: BmcMishap | undefined;
let names = ['one'];
const resetTypes = ['On', 'ForceOff', 'GracefulShutdown', 'ForceRestart', 'PowerCycle'];
let server: RedfishServer;
let bmc: Bmc;
/** Longer than any answer takes, on a machine that does much else. */
const soon = (): AbortSignal => AbortSignal.timeout(30_000);
const fingerprint = (pem: string): string => new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();

beforeAll(async () => {
  server = await createRedfish({
    isUser: (user) => user === 'admin',
    password: 'first',
    names: () => names,
    find: (name) =>
      names.includes(name)
        ? {
            isOn: () => isOn,
            on() {
              done.push('on');
              isOn = true;
            },
            off() {
              done.push('off');
              isOn = false;
            },
          }
        : undefined,
    mishapOf: () => mishap,
    resetTypes,
  });
  await new Promise<void>((resolve) => server.server.listen(0, '127.0.0.1', resolve));
});
beforeEach(() => {
  isOn = true;
  done = [];
  mishap = undefined;
  names = ['one'];
  bmc = {
    address: '127.0.0.1',
    port: (server.server.address() as AddressInfo).port,
    user: 'admin',
    password: server.passwordOf('admin'),
    certificate: fingerprint(server.certificate),
    system: null,
  };
});
afterAll(() => {
  server.server.closeAllConnections();
  server.server.close();
});

/** Code and words of what it fails with. */
const failure = async (work: Promise<unknown>): Promise<[string, string]> => {
  const error = await work.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Problem)) throw error;
  return [error.code, error.message.replace(/^the BMC at 127\.0\.0\.1 \(port \d+\) /, '')];
};

test('its certificate is told without a password, and is the one that it has', async () => {
  expect(await redfish.certificate({ ...bmc, certificate: null }, soon())).toBe(bmc.certificate);
});

test('the power is told, switched off, on, softly off, cycled and reset', async () => {
  expect(await redfish.state(bmc, soon())).toBe('on');
  for (const command of ['off', 'on', 'softOff', 'on', 'cycle', 'reset'] as const)
    await redfish.command(bmc, command, soon());
  expect(done).toEqual(['off', 'on', 'off', 'on', 'off', 'on', 'off', 'on']);
  await redfish.command(bmc, 'off', soon());
  expect(await redfish.state(bmc, soon())).toBe('off');
});

test('where it knows no power cycle, the power goes off and then on', async () => {
  resetTypes.splice(resetTypes.indexOf('PowerCycle'), 1);
  await redfish.command(bmc, 'cycle', soon());
  resetTypes.push('PowerCycle');
  expect(done).toEqual(['off', 'on']);
});

test('one of several systems has to be named, and is the one that is switched', async () => {
  names = ['one', 'two'];
  expect((await failure(redfish.state(bmc, soon())))[1]).toMatch(/^refuses: it manages several systems/);
  expect(await redfish.state({ ...bmc, system: 'two' }, soon())).toBe('on');
  expect(await failure(redfish.state({ ...bmc, system: '../../x' }, soon()))).toEqual([
    'PRECONDITION_FAILED',
    'refuses: HTTP 404 to GET /redfish/v1/Systems/..%2F..%2Fx',
  ]);
});

test('its password is changed, and the one before lets nobody in', async () => {
  await redfish.changePassword(bmc, 'second', soon());
  expect(server.passwordOf('admin')).toBe('second');
  expect(await failure(redfish.state(bmc, soon()))).toEqual([
    'PRECONDITION_FAILED',
    'refuses user admin: its name, its password or its rights are wrong',
  ]);
  expect(await redfish.state({ ...bmc, password: 'second' }, soon())).toBe('on');
});

test('only a refused password is taken for a wrong one: not missing rights, another certificate or a system that is not there', async () => {
  const isWrongPassword = async (work: Promise<unknown>): Promise<boolean> =>
    work.then(
      () => false,
      (error: unknown) => error instanceof WrongPassword,
    );
  expect(await isWrongPassword(redfish.state({ ...bmc, password: 'wrong' }, soon()))).toBe(true);
  for (const other of [{ certificate: 'ab'.repeat(32) }, { system: 'nowhere' }, { port: 1 }])
    expect(await isWrongPassword(redfish.state({ ...bmc, ...other }, soon()))).toBe(false);
  mishap = 'stubborn';
  expect(await isWrongPassword(redfish.changePassword(bmc, 'third', soon()))).toBe(false);
});

test('a server with another certificate is told nothing, not even who asks', async () => {
  let asked = 0;
  const count = (): void => void asked++;
  server.server.on('request', count);
  const [code, message] = await failure(redfish.command({ ...bmc, certificate: 'ab'.repeat(32) }, 'off', soon()));
  server.server.off('request', count);
  expect([code, asked, isOn]).toEqual(['PRECONDITION_FAILED', 0, true]);
  expect(message).toMatch(/^shows another certificate than the one that is pinned/);
});

describe('a BMC that behaves badly changes nothing and keeps nobody', () => {
  test.each<[BmcMishap, string, RegExp]>([
    ['silent', 'BACKEND_UNAVAILABLE', /^does not answer: no answer in time$/],
    ['slow', 'BACKEND_UNAVAILABLE', /^does not answer: no answer in time$/],
    ['garbage', 'BACKEND_UNAVAILABLE', /^gave a wrong answer: what it sends is not JSON$/],
    ['huge', 'BACKEND_UNAVAILABLE', /^gave a wrong answer: more than 1048576 bytes$/],
    ['redirect', 'BACKEND_UNAVAILABLE', /^gave a wrong answer: a redirect, which is not followed$/],
    ['elsewhere', 'BACKEND_UNAVAILABLE', /^gave a wrong answer: a link that leads nowhere below \/redfish\/v1\/$/],
    ['broken', 'BACKEND_UNAVAILABLE', /^gave a wrong answer: HTTP 503$/],
  ])('%s', async (how, code, words) => {
    mishap = how;
    const says = how === 'silent' || how === 'slow' ? AbortSignal.timeout(500) : soon();
    const [found, message] = await failure(redfish.command(bmc, 'off', says));
    expect([found, isOn]).toEqual([code, true]);
    expect(message).toMatch(words);
    expect(message).not.toContain(bmc.password);
  });

  test('one that is not there', async () => {
    expect(await failure(redfish.state({ ...bmc, port: 1 }, soon()))).toEqual([
      'BACKEND_UNAVAILABLE',
      'does not answer: ECONNREFUSED',
    ]);
    expect((await failure(redfish.certificate({ ...bmc, port: 1 }, soon())))[1]).toBe('does not answer: ECONNREFUSED');
  });
});
