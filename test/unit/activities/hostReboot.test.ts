/** A host that does not come back from a reboot is told, with what was found, and not waited for for ever. */
import type { setTimeout } from 'node:timers/promises';
import { asyncLocalStorage, type Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { afterEach, expect, test, vi } from 'vitest';
import { hostReboot } from '../../../activities/platform/hostReboot.ts';
import type { World } from '../../../activities/world.ts';
import { AgentError } from '../../../host-agent/agentError.ts';

afterEach(() => vi.restoreAllMocks());

const minutes = 60_000;
const pause = (async () => {}) as unknown as typeof setTimeout;
const context = { cancellationSignal: new AbortController().signal } as Context;

/** A database that knows a host, with a BMC or without, and whether the order to start anew may have come. */
function databaseOf({ bmc = null, taken = false }: { bmc?: object | null; taken?: boolean }) {
  let isNoted = taken;
  const query = async ({ text }: { text: string }) => {
    if (text.includes('"bmcDisprovedAt"')) return { rows: [{ bmc, bmcDisprovedAt: null }] };
    const wasNoted = isNoted;
    if (/^INSERT/.test(text)) isNoted = true;
    if (/^DELETE/.test(text)) isNoted = false;
    return { rows: wasNoted === /^SELECT/.test(text) ? [{}] : [] };
  };
  return { connections: { query } };
}

const reboot = (
  call: (name: string) => Promise<unknown>,
  { byBmc = false, ...known }: { byBmc?: boolean; bmc?: object | null; taken?: boolean } = {},
): Promise<unknown> =>
  asyncLocalStorage.run(context, () =>
    hostReboot({ host: async () => ({ call }), database: databaseOf(known) } as unknown as World, pause).reboot.do(
      { hostId: 'one', bootId: 'old', byBmc },
      { operationId: 'of' } as never,
    ),
  );

test.each([
  [
    'does not answer',
    () => Promise.reject(new AgentError('HOST_UNREACHABLE', 'no route to it', true, 'one')),
    'no route to it',
  ],
  ['answers in the life before', () => Promise.resolve({ bootId: 'old' }), 'it answers, and has not started anew'],
])('a host that %s after half an hour', async (_, call, found) => {
  vi.spyOn(performance, 'now')
    .mockReturnValueOnce(0)
    .mockReturnValue(31 * minutes);
  const failed = await reboot(call).catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(ApplicationFailure);
  expect(failed).toMatchObject({
    type: 'HOST_UNREACHABLE',
    nonRetryable: true,
    message: `host one did not come back within 30 minutes: ${found}`,
    // The operation asks a person at once.
    details: [{ hostId: 'one', triedEnough: true }],
  });
});

test('a host that is back in time is waited for no longer', async () => {
  await expect(reboot(() => Promise.resolve({ bootId: 'new' }))).resolves.toEqual({ isDeaf: false });
});

const away = () => Promise.reject(new AgentError('HOST_UNREACHABLE', 'no route to it', true, 'one'));
const asBefore = () => Promise.resolve({ bootId: 'old' });
const after = (waitedMs: number): void =>
  void vi.spyOn(performance, 'now').mockReturnValueOnce(0).mockReturnValue(waitedMs);

test.each([
  ['has not taken the order', away, { taken: false }, 1],
  ['answers as before, long after it has taken the order', asBefore, { taken: true }, 6],
])('an agent that %s is deaf where there is a BMC to cycle its host', async (_, call, known, waited) => {
  after(waited * minutes);
  await expect(reboot(call, { ...known, bmc: {} })).resolves.toEqual({ isDeaf: true });
});

test('one that has taken the order, and says nothing to a second, may be starting', async () => {
  vi.spyOn(performance, 'now')
    .mockReturnValueOnce(0)
    .mockReturnValueOnce(0)
    .mockReturnValueOnce(minutes)
    .mockReturnValue(31 * minutes);
  let asked = 0;
  const call = (name: string): Promise<unknown> => {
    if (name === 'host.boot') return asked < 2 ? asBefore() : away();
    asked += 1;
    return asked === 1 ? asBefore() : Promise.reject(new AgentError('TIMEOUT', 'no answer', true, 'one'));
  };
  await expect(reboot(call, { bmc: {} })).rejects.toMatchObject({ type: 'HOST_UNREACHABLE' });
});

test.each([
  ['has taken the order and is silent', away, { taken: true, bmc: {} }],
  ['has no BMC', away, { taken: false }],
  ['was cycled already', away, { taken: false, bmc: {}, byBmc: true }],
])('a host that %s is waited for', async (_, call, known) => {
  after(31 * minutes);
  await expect(reboot(call, known)).rejects.toMatchObject({ type: 'HOST_UNREACHABLE' });
});

test('one that was cycled is not told to start anew, and one that answers as before was not cycled', async () => {
  const names: string[] = [];
  after(minutes);
  const asked = reboot(
    async (name) => {
      names.push(name);
      return { bootId: 'old' };
    },
    { byBmc: true },
  );
  await expect(asked).rejects.toMatchObject({ type: 'PRECONDITION_FAILED', details: [{ triedEnough: true }] });
  expect(new Set(names)).toEqual(new Set(['host.boot']));
});
