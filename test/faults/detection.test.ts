/** Who finds failed hosts may sleep, die, or be two at a time: a host is failed over once, and none because somebody slept. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api, Resource } from '../../lab/api.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { type Detecting, detecting, isFenced } from '../support/detection.ts';
import { untilSeen } from '../support/operations.ts';
import { secondWorker, suspend } from '../support/suspend.ts';

const testTimeoutMs = 300_000;
let running: SimulatedCloud;
let admin: Api;
let hosts: Resource[];
const end: (() => Promise<void>)[] = [];

let asked: Detecting;

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 2, faultInjection: false });
  ({ admin } = joinCloud(running.address));
  asked = detecting(admin, running.address.simulatorUrl);
  ({ hosts } = await asked.zone([10, 11, 12, 13].map((n) => `host-${n}`)));
}, testTimeoutMs);

afterAll(async () => {
  for (const each of end) await each();
  await running?.stop();
}, 120_000);

test(
  'a control plane that slept concludes nothing of the hosts that it did not hear meanwhile',
  async () => {
    const pid = running.stack.pid('host');
    const awake = suspend(pid);
    const asleepAt = performance.now();
    // Longer than any silence that means something, and than its lease.
    await untilSeen(
      async () => performance.now() - asleepAt,
      (ms) => ms > 20_000,
    );
    awake();
    // It is known to be awake again once it has said of all hosts that it hears them.
    const wokenAt = Date.now();
    for (const host of hosts)
      await untilSeen(
        () => asked.now(host),
        (seen) => seen.connection === 'connected' && Date.parse(String(seen.lastSeenAt)) > wokenAt,
      );
    for (const host of hosts) {
      expect(await asked.now(host)).toMatchObject({ health: 'well', state: 'active' });
      expect(await asked.list('events', `resourceId = "${host.id}" AND type = "host.healthChanged"`)).toEqual([]);
    }
    expect(await asked.list('findings', 'what = "zoneSilent"')).toEqual([]);
  },
  testTimeoutMs,
);

test(
  'a host whose worker is stopped while it looks for it is found by the next, and failed over once',
  async () => {
    const [host] = hosts;
    const pid = running.stack.pid('host');
    await asked.suffer(host, 'crash');
    await untilSeen(
      () => asked.now(host),
      ({ health }) => health !== 'well',
    );
    const awake = suspend(pid);
    end.push(secondWorker(pid, 'second'));
    await untilSeen(() => asked.now(host), isFenced);
    awake();
    await untilSeen(
      () => asked.now(hosts[1]),
      ({ connection }) => connection === 'connected',
    );
    expect(await asked.failovers(host)).toHaveLength(1);
    for (const other of hosts.slice(1)) expect(await asked.failovers(other)).toEqual([]);
  },
  testTimeoutMs,
);
