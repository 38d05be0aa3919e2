import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AgentError, connectHost, type HostConnection, reachSimulatedBy } from '../../../host-agent/connection.ts';
import type { HostEvent } from '../../../host-agent/protocol.ts';
import { adminUser } from '../../../lab/simulated/ceph.ts';
import { guestId, type HostsHere, hostsHere } from '../../../lab/simulated/inProcess.ts';
import { startSimulator } from '../../../lab/simulated/simulator.ts';
import { contract } from '../../support/contract.ts';
import { firstStamp } from './cloud.ts';
import { simulatedPlace } from './contractPlace.ts';

const guests = { perHost: 3, vcpus: 1, memoryMib: 128 };
const ids = [0, 1, 2].map((n) => guestId('host-7', n)).sort();

let hosts: HostsHere;
let host: HostConnection;
beforeAll(async () => {
  hosts = hostsHere(guests);
  reachSimulatedBy('recorded', hosts.connect);
  host = await connectHost({ address: 'sim://recorded/host-7' });
});
afterAll(() => hosts.stop());

/** Listens until it is told to stop, or the stream ends; answers what was said first, and how it ended. */
function listening(connection: HostConnection, epoch: number) {
  const controller = new AbortController();
  const heard: HostEvent[] = [];
  const ended = connection
    .events((event) => heard.push(event), controller.signal, undefined, { shard: 1, epoch })
    .catch((error: AgentError) => error.code);
  return { heard, ended, stop: () => controller.abort() };
}

test('a host runs what is recorded of it, and says so in its first words, its inventory and its measures', async () => {
  const { heard, ended, stop } = listening(host, 1);
  await expect.poll(() => heard).toHaveLength(1);
  expect(heard[0]).toMatchObject({ type: 'hello', beatSeconds: expect.any(Number) });
  expect(heard[0]?.domains?.map(({ id, state }) => [id, state]).sort()).toEqual(ids.map((id) => [id, 'running']));
  stop();
  expect(await ended).toBeUndefined();
  const { domains } = await host.call('host.inventory', {});
  expect(domains.map(({ id, tags }) => [id, tags?.kind])).toEqual(ids.map((id) => [id, 'instance']));
  const measured = await host.call('host.metrics', {});
  expect(measured.domains.map(({ id, memoryBytes }) => [id, memoryBytes]).sort()).toEqual(
    ids.map((id) => [id, 128 * 2 ** 20]),
  );
});

test('what becomes of one of its guests stays so, and is told to those who listen', async () => {
  const { heard, ended, stop } = listening(host, 1);
  const [first = ''] = ids;
  await host.as(firstStamp, async () => {}).call('domain.ensureOff', { id: first });
  await expect.poll(() => heard.map(({ type }) => type)).toEqual(['hello', 'domain.stopped']);
  expect((await host.call('host.metrics', {})).domains.map(({ id }) => id).sort()).toEqual(ids.slice(1));
  stop();
  expect(await ended).toBeUndefined();
});

test('who listens under a lease that has passed on hears no more, and what comes under it is refused', async () => {
  const before = listening(host, 2);
  const after = listening(host, 3);
  expect(await before.ended).toBe('HOST_UNREACHABLE');
  await expect.poll(() => after.heard).toHaveLength(1);
  expect(await listening(host, 2).ended).toBe('SUPERSEDED');
  const late = host.as(firstStamp, async () => {}).call('domain.thaw', { id: ids[0] ?? '' });
  await expect(late).rejects.toMatchObject({ code: 'SUPERSEDED', retryable: true });
  after.stop();
});

test('nothing is sent for a try that is not the present one', async () => {
  const { lease, step } = firstStamp;
  const inStep = host.as({ lease: { ...lease, epoch: 4 }, step }, () => Promise.reject(new Error('overtaken')));
  await expect(inStep.call('domain.ensureAbsent', { id: ids[1] ?? '' })).rejects.toThrow('overtaken');
  expect(await host.call('domain.status', { id: ids[1] ?? '' })).toMatchObject({ state: 'running' });
});

test('a connection that is closed ends what goes on through it, and carries nothing more', async () => {
  const connection = await connectHost({ address: 'sim://recorded/host-8' });
  const { ended } = listening(connection, 1);
  await connection.close();
  expect(await ended).toBe('HOST_UNREACHABLE');
  expect(await connection.closed).toBeUndefined();
  await expect(connection.call('host.facts', {})).rejects.toMatchObject({ code: 'HOST_UNREACHABLE', retryable: true });
});

test('no worker has hosts in its process where simulated ones are not allowed', async () => {
  const here = new URL('../../../lab/simulated/here.ts', import.meta.url).href;
  const start = (environment: Record<string, string>) =>
    promisify(execFile)(process.execPath, ['--import', here, '--eval', ''], {
      env: { ...process.env, BELAY_ROLE: 'host', ...environment },
    });
  await expect(start({})).rejects.toThrow('set BELAY_ALLOW_SIMULATED_HOSTS=1');
  await start({ BELAY_ALLOW_SIMULATED_HOSTS: '1' });
});

contract(async () => {
  const simulator = await startSimulator({ hosts: 0 });
  const hosts = hostsHere();
  reachSimulatedBy('contract', hosts.connect);
  const addresses = [0, 1].map((n) => `sim://contract/host-${n}`);
  return simulatedPlace(simulator, addresses, { ...hosts.world.ceph, adminUser }, async () => {
    hosts.stop();
    await simulator.stop();
  });
});
