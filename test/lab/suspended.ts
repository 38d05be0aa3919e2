/** A host worker that is suspended in the middle of a step, on real hosts: see test/faults/suspended.test.ts for every message. */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { setRules } from '../support/rollback.ts';
import { answersTo, isSuspended, secondWorker } from '../support/suspend.ts';

export interface SuspendedLab {
  admin: Api;
  tenant: Api;
  hosts: Resource[];
  /** Process id of the host worker. */
  workerPid(): number;
  newInstance(name: string, requestedId: string): Record<string, unknown>;
  /** The ids of the hosts on which a guest is known to libvirt, with its state there. */
  placesOf(instanceId: string): Promise<[hostId: string, state: string][]>;
  expunge(instanceId: string): Promise<void>;
}

export function suspendedWorkers(of: () => SuspendedLab): void {
  describe('a host worker that is suspended for longer than its lease', () => {
    let endSecond: () => Promise<void> = async () => {};
    afterEach(async () => {
      const { admin, workerPid } = of();
      if (isSuspended(workerPid())) process.kill(workerPid(), 'SIGCONT');
      await setRules(admin, []);
      await endSecond();
      endSecond = async () => {};
    });

    const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
      while (!(await condition())) await setTimeout(200);
    };
    const act = (id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
      of().admin.done('POST', `/v1/instances/${id}/actions/${verb}`, body);
    const hostOf = async (id: string): Promise<string> =>
      String((await of().admin.call('GET', `/v1/instances/${id}`)).hostId);

    const elsewhere = async (id: string, first: string): Promise<string> => {
      const hostId = await hostOf(id);
      expect(hostId).not.toBe(first);
      return hostId;
    };

    /** Begins the operation, suspends the worker before that message, and lets another finish it. */
    async function finishedByAnother(
      targetId: string,
      step: string,
      message: string,
      begin: () => Promise<OperationView>,
    ): Promise<void> {
      const { admin, workerPid } = of();
      await setRules(admin, [{ targetId, step, fault: 'suspend', message }]);
      const { id } = await begin();
      await until(() => isSuspended(workerPid()));
      endSecond = secondWorker(workerPid(), 'host-2');
      const { state, error } = await admin.settled(id);
      expect([state, error]).toEqual(['succeeded', null]);
      // The rule strikes once per operation: the next one is not to be struck, nor the worker that has taken the place.
      await setRules(admin, []);
    }

    /**
     * The message at which it was stopped changes nothing when it goes on: the host refuses it, or its connection has ended meanwhile. `before` are
     * its answers until then.
     */
    async function goesOnInVain(message: string, before: { done: number; inVain: number }): Promise<void> {
      const pid = of().workerPid();
      process.kill(pid, 'SIGCONT');
      await until(async () => (await answersTo(pid, message)).inVain > before.inVain);
      expect((await answersTo(pid, message)).done).toBe(before.done);
    }

    test('does not boot a guest again that has gone on to another host, and does not move it', async () => {
      const { tenant, newInstance, placesOf, expunge } = of();
      const id = randomUUID();
      const boots = await answersTo(of().workerPid(), 'domain.ensureRunning');
      await finishedByAnother(id, 'hypervisor.boot', 'domain.ensureRunning', () =>
        tenant.call('POST', '/v1/instances', newInstance('suspended', id)),
      );
      const first = await hostOf(id);
      await act(id, 'migrate');
      await goesOnInVain('domain.ensureRunning', boots);
      expect(await placesOf(id)).toEqual([[await elsewhere(id, first), 'running']]);
      await endSecond();

      const moves = await answersTo(of().workerPid(), 'domain.migrate');
      await finishedByAnother(id, 'hypervisor.migrate', 'domain.migrate', () =>
        of().admin.call('POST', `/v1/instances/${id}/actions/migrate`, { hostId: first }),
      );
      await act(id, 'migrate');
      await goesOnInVain('domain.migrate', moves);
      expect(await placesOf(id)).toEqual([[await elsewhere(id, first), 'running']]);
      await expunge(id);
    }, 900_000);
  });
}
