/** Simulated hosts that fail, each of its own, and come back. */
import type { Api, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import type { CloudAddress, JoinedCloud } from './cloud.ts';
import { maintainUntil } from './maintenance.ts';
import { untilSeen } from './operations.ts';

type Misfortune = 'crash' | 'partition' | 'cutOff';

export interface FailingHost {
  id: string;
  name: string;
  now(): Promise<Resource>;
  /** What befalls it; `partition` cuts it off from the control plane alone, `cutOff` from everybody, and its guests run on. */
  suffer(what: Misfortune | 'heal'): Promise<void>;
  /** The same, until the platform has seen that it does not answer. */
  fail(how?: Misfortune): Promise<void>;
  /** Until it answers. */
  connected(): Promise<unknown>;
  ask(verb: string, body?: Record<string, unknown>): Promise<OperationView>;
  /** Answers how it has ended. */
  done(verb: string, body?: Record<string, unknown>): Promise<OperationView>;
  deploy(name: string, more?: Record<string, unknown>): Promise<string>;
  /** Brought back into use where it was not, and removed. */
  remove(): Promise<void>;
}

/** Instances that are lost run again, and then all of them and the hosts are removed. */
export async function removeAll(
  { temporalAddress }: Pick<CloudAddress, 'temporalAddress'>,
  { admin, removeInstance }: Pick<JoinedCloud, 'admin' | 'removeInstance'>,
  instanceIds: readonly string[],
  hosts: readonly FailingHost[],
): Promise<void> {
  const instanceNow = (id: string): Promise<Resource> => admin.call('GET', `/v1/instances/${id}`);
  await maintainUntil(temporalAddress, 'restartLost', async () =>
    (await Promise.all(instanceIds.map(instanceNow))).every(
      ({ state, currentOperationId }) => state !== 'lost' && !currentOperationId,
    ),
  );
  await Promise.all(instanceIds.map(removeInstance));
  for (const one of hosts) await one.remove();
}

export function failing(address: CloudAddress, { admin, cloud }: Pick<JoinedCloud, 'admin' | 'cloud'>) {
  return async (number: number): Promise<FailingHost> => {
    const name = `host-${number}`;
    const at = `sim://${new URL(address.simulatorUrl).host}/${name}`;
    const { id } = await make(admin, 'hosts', { name, clusterId: cloud.cluster.id, address: at });
    return failingHost(address, { admin, cloud }, { id, name });
  };
}

export function failingHost(
  { simulatorUrl }: Pick<CloudAddress, 'simulatorUrl'>,
  { admin, cloud }: { admin: Api; cloud: JoinedCloud['cloud'] },
  { id, name }: { id: string; name: string },
): FailingHost {
  const path = `/v1/hosts/${id}`;
  const now = (): Promise<Resource> => admin.call('GET', path);
  const befall = async (what: string, body: unknown = {}): Promise<void> => {
    await fetch(`${simulatorUrl}/_sim/hosts/${name}/${what}`, { method: 'POST', body: JSON.stringify(body) });
  };
  const suffer: FailingHost['suffer'] = async (what) => {
    if (what === 'cutOff') await befall('cut', { from: ['peers', 'storage'] });
    await befall(what === 'cutOff' ? 'partition' : what);
  };
  const ask = (verb: string, body: Record<string, unknown> = {}): Promise<OperationView> =>
    admin.call('POST', `${path}/actions/${verb}`, body);
  const done = async (verb: string, body?: Record<string, unknown>): Promise<OperationView> =>
    admin.settled((await ask(verb, body)).id);
  const connected = (): Promise<unknown> => untilSeen(now, ({ connection }) => connection === 'connected');
  return {
    id,
    name,
    now,
    connected,
    suffer,
    ask,
    done,
    async fail(how = 'crash') {
      await suffer(how);
      await untilSeen(now, ({ connection }) => connection === 'disconnected');
    },
    async deploy(instanceName, more = {}) {
      const body = { projectId: cloud.project.id, requestedHostId: id, ...more };
      return (await make(admin, 'instances', instanceBody(cloud, instanceName, body))).id;
    },
    async remove() {
      await untilSeen(now, ({ currentOperationId }) => !currentOperationId);
      if ((await now()).state === 'fenced') {
        await suffer('crash');
        await suffer('heal');
        await done('reinstate');
      }
      await connected();
      await admin.done('DELETE', path);
    },
  };
}
