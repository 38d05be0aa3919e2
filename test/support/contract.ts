/**
 * The protocol as whoever speaks to a host may rely on it. It is kept by simulated hosts and by real ones: each of the two has this as its test.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AgentError, HostConnection, HostInStep } from '../../host-agent/connection.ts';
import { misfit } from '../../host-agent/protocol/call.ts';
import { LAYERS_MAX } from '../../host-agent/protocol/files.ts';
import { CALLS, type CallName, type Calls, TASKS, type TaskName, type Tasks } from '../../host-agent/protocol.ts';
import { type Inputs, rightInputs, type Subject, wrongInputs } from './protocolInputs.ts';

export interface Place extends Subject {
  here: HostConnection;
  /** Another host, which guests go to. */
  there: HostConnection;
  close(): Promise<void>;
}

/** A guest that has an interface waits at each boot for an address, which nobody gives it here. */
const unplugged = { interfaces: [] };

/** As many requests as a connection carries at once. */
const atOnce = 6;

/** Of no shard that a control plane has. */
const lease = { shard: 990_001, epoch: 1 };

/** As a step speaks to a host, that is still to be done. */
export const inStep = (host: HostConnection): HostInStep =>
  host.as({ lease, step: { operationId: `contract-${randomUUID()}`, index: 0, round: 1, attempt: 1 } }, async () => {});

interface Refusal {
  name: string;
  why: string;
  code: string;
  retryable: boolean;
}

/** What becomes of every call and task with every wrong input. */
async function refusals(host: HostConnection, right: Inputs): Promise<Refusal[]> {
  const step = inStep(host);
  const call = step.call as (name: string, input: unknown) => Promise<unknown>;
  const runTask = step.runTask as (name: string, id: string, input: unknown) => Promise<unknown>;
  const asked: { name: string; why: string; ask: () => Promise<unknown> }[] = [
    ...(Object.keys(CALLS) as CallName[]).flatMap((name) =>
      wrongInputs(right[name]).map(({ why, input }) => ({ name, why, ask: () => call(name, input) })),
    ),
    ...(Object.keys(TASKS) as TaskName[]).flatMap((name) =>
      wrongInputs(right[name]).map(({ why, input }) => ({ name, why, ask: () => runTask(name, 'wrong', input) })),
    ),
    { name: 'host.probe', why: 'an id that is none', ask: () => runTask('host.probe', '../x', {}) },
  ];
  const found: Refusal[] = [];
  const askNext = async (): Promise<void> => {
    for (let next = asked.pop(); next; next = asked.pop()) {
      const { name, why, ask } = next;
      const error = (await ask().catch((thrown: unknown) => thrown)) as Partial<AgentError> | undefined;
      found.push({ name, why, code: error?.code ?? 'none', retryable: error?.retryable ?? true });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, askNext));
  return found;
}

/** Declares the tests. `open` is called once. */
export function contract(open: () => Promise<Place>): void {
  describe('the contract of a host', () => {
    let place: Place;
    let right: Inputs;
    let here: HostInStep;
    let there: HostInStep;
    const made = new Set<string>();

    beforeAll(async () => {
      place = await open();
      right = rightInputs(place);
      here = inStep(place.here);
      there = inStep(place.there);
    });
    afterAll(() => place?.close());

    const shaped = (name: string, schema: Parameters<typeof misfit>[0], answer: unknown): void => {
      expect(misfit(schema, answer), `the answer of ${name}`).toBeUndefined();
      made.add(name);
    };
    async function call<Name extends CallName>(
      name: Name,
      more: Partial<Calls[Name]['input']> = {},
      host = here,
    ): Promise<Calls[Name]['result']> {
      const answer = await host.call(name, { ...right[name], ...more });
      shaped(name, CALLS[name].result, answer);
      return answer;
    }
    async function run<Name extends TaskName>(name: Name, host = here): Promise<Tasks[Name]['result']> {
      const answer = await host.runTask(name, `contract-${randomUUID()}`, right[name]);
      shaped(name, TASKS[name].result, answer);
      return answer;
    }

    /** What both hosts and the pool hold. A tap's name, and how many bytes an image has, are not the caller's choice. */
    async function look(): Promise<unknown> {
      const hosts = await Promise.all([place.here, place.there].map((host) => host.call('host.inventory', {})));
      const pool = await place.here
        .call('rbd.inventory', right['rbd.inventory'])
        .catch((error: AgentError) => error.code);
      return [
        hosts.map(({ domains, ports, secrets, files }) => ({
          domains: domains.sort((a, b) => (a.id < b.id ? -1 : 1)),
          ports: ports.map(({ interfaceId }) => interfaceId).sort(),
          secrets: secrets.sort(),
          files: files.sort(),
        })),
        typeof pool === 'string'
          ? pool
          : {
              images: pool.images.map((image) => ({ ...image, watchers: 0 })),
              trash: pool.trash.map(({ name }) => name),
            },
        await place.here.call('files.inventory', right['files.inventory']).catch((error: AgentError) => error.code),
      ];
    }

    /** It may arrive twice, and is then answered the same, with the same left of it. */
    async function twice<Name extends CallName>(
      name: Name,
      more: Partial<Calls[Name]['input']> = {},
      host = here,
    ): Promise<Calls[Name]['result']> {
      const answer = await call(name, more, host);
      const world = await look();
      expect(await call(name, more, host), `${name}, a second time`).toEqual(answer);
      expect(await look(), `after ${name}, a second time`).toEqual(world);
      return answer;
    }

    async function until<Result>(what: string, look: () => Promise<Result | false>): Promise<Result> {
      for (const end = performance.now() + 120_000; performance.now() < end; await setTimeout(50)) {
        const found = await look();
        if (found !== false) return found;
      }
      throw new Error(`${what} did not happen`);
    }

    const codeOf = (asking: Promise<unknown>): Promise<string> =>
      asking.then(
        () => 'none',
        (error: AgentError) => error.code,
      );

    let before: unknown;

    test('wrong inputs are refused, whatever is wrong with them, and nothing is done', async () => {
      before = await look();
      const found = await refusals(place.here, right);
      expect(found.length).toBeGreaterThan(2_000);
      expect(found.filter(({ code, retryable }) => code !== 'INVALID_ARGUMENT' || retryable)).toEqual([]);
      expect(await look()).toEqual(before);
    });

    test('what a host is, holds and uses is told', async () => {
      const facts = await call('host.facts');
      expect(facts.vcpus).toBeGreaterThan(0);
      expect((await run('host.probe')).hostname).toBe(facts.hostname);
      expect((await call('host.metrics')).memoryTotalBytes).toBeGreaterThan(0);
      await call('host.inventory');
    });

    test('a machine is not started anew for the sake of a life that is over', async () => {
      const { bootId } = await call('host.boot');
      await twice('host.reboot');
      expect((await call('host.boot')).bootId).toBe(bootId);
    });

    test('what was never done is taken back all the same', async () => {
      for (const name of [
        'domain.ensureOff',
        'domain.ensureAbsent',
        'domain.thaw',
        'domain.ensureSerialLogAbsent',
      ] as const)
        await twice(name);
      await twice('domain.ensureDiskAbsent', { mustBeThere: false });
      await twice('domain.ensureInterfaceAbsent', { mustBeThere: false });
      expect(await codeOf(here.call('domain.ensureInterfaceAbsent', right['domain.ensureInterfaceAbsent']))).toBe(
        'NOT_FOUND',
      );
      expect(await codeOf(here.call('domain.ensureDiskAbsent', right['domain.ensureDiskAbsent']))).toBe('NOT_FOUND');
      expect(await twice('domain.ensureNotMigrating')).toMatchObject({ state: 'absent' });
      expect(await call('domain.status')).toMatchObject({ state: 'absent' });
      await run('domain.shutDown');
      await twice('storage.ensureDisconnected');
      await twice('ceph.ensureUserAbsent');
      await twice('ceph.ensurePoolAbsent');
      expect(await look()).toEqual(before);
    });

    test('libvirt and the switch are configured, and as they were afterwards', async () => {
      for (const what of ['hypervisor', 'switch'] as const) {
        await twice(`${what}.ensureConfigured`);
        const configured = await look();
        await twice(`${what}.ensureUnconfigured`);
        await twice(`${what}.ensureConfigured`);
        expect(await look()).toEqual(configured);
      }
    });

    test('a physical network is led through a bridge that is there, and no longer', async () => {
      const { physicalNetworkId } = right['switch.ensureMapping'];
      const led = async () =>
        (await call('host.inventory')).mappings?.filter((one) => one.physicalNetworkId === physicalNetworkId);
      expect(await call('switch.bridges')).toEqual({ bridges: ['br-phy'] });
      expect(await codeOf(here.call('switch.ensureMapping', { physicalNetworkId, bridge: 'missing' }))).toBe(
        'PRECONDITION_FAILED',
      );
      await twice('switch.ensureMapping');
      expect(await led()).toEqual([{ physicalNetworkId, bridge: 'br-phy' }]);
      await twice('switch.ensureMappingAbsent');
      expect(await led()).toEqual([]);
      await call('switch.ensureMapping');
      await call('switch.ensureUnconfigured');
      expect(await led()).toEqual([]);
      await call('switch.ensureConfigured');
    });

    test('a storage cluster is reached, by a user who may no more than is needed', async () => {
      expect(await codeOf(here.call('rbd.inventory', right['rbd.inventory']))).toBe('PRECONDITION_FAILED');
      expect((await call('ceph.status')).fsid).toBe(place.access.fsid);
      expect(await twice('ceph.ensurePool')).toEqual({ made: true });
      const foreign = { tags: { ...right['ceph.ensurePool'].tags, id: 'foreign' } };
      expect(await codeOf(here.call('ceph.ensurePool', { ...right['ceph.ensurePool'], ...foreign }))).toBe(
        'NAME_IN_USE',
      );
      const { key } = await twice('ceph.ensureUser');
      const { user } = right['ceph.ensureUser'];
      for (const host of [here, there]) await twice('storage.ensureConnected', { user, key }, host);
      expect((await call('ceph.poolStatus')).totalBytes).toBeGreaterThan(0);
      await twice('rbd.proveWritable');
      expect(await call('rbd.inventory')).toEqual({ images: [], trash: [] });
    });

    test('who is shut out of a storage cluster can write nothing there until it is let in again', async () => {
      const { user } = right['ceph.ensureUser'];
      const { key } = await call('ceph.ensureUser');
      const { addresses = [] } = await call('storage.ensureConnected', { user, key }, there);
      expect(addresses.length).toBeGreaterThan(0);
      await twice('ceph.ensureFenced', { addresses });
      expect((await call('ceph.fenced')).addresses).toEqual(expect.arrayContaining(addresses));
      expect(await codeOf(there.call('rbd.proveWritable', right['rbd.proveWritable']))).toBe('BACKEND_UNAVAILABLE');
      await call('rbd.proveWritable');
      await twice('ceph.ensureUnfenced', { addresses });
      expect((await call('ceph.fenced')).addresses).not.toEqual(expect.arrayContaining(addresses));
      await call('storage.ensureConnected', { user, key }, there);
      await call('rbd.proveWritable', {}, there);
    });

    test('images are made, cloned, grown, kept, taken back, thrown away and brought again', async () => {
      const imported = await run('image.import');
      expect(await run('image.import')).toEqual(imported);
      for (const name of ['rbd.ensureClone', 'rbd.ensureImage', 'rbd.ensureSnapshot', 'seed.ensure'] as const) {
        await twice(name);
        const foreign = { ...right[name], tags: { ...right[name].tags, id: 'foreign' } };
        const world = await look();
        expect(await codeOf(here.call(name, foreign as never)), `${name} over another's`).toBe('NAME_IN_USE');
        expect(await look()).toEqual(world);
      }
      await twice('rbd.ensureSize');
      expect(await codeOf(here.call('rbd.ensureSize', { ...right['rbd.ensureSize'], sizeGib: 1 }))).toBe(
        'INVALID_ARGUMENT',
      );
      await twice('rbd.rollBack');
      expect(await call('rbd.watchers')).toEqual({ addresses: [] });
      await twice('rbd.ensureTrashed');
      await twice('rbd.ensureRestored');
      await twice('rbd.ensureImageAbsent', { onlyOperation: 'another' });
      const { images } = await call('rbd.inventory');
      expect(images.map(({ name }) => name).sort()).toEqual(['cached', 'data', 'root', 'seed']);
      expect(images.find(({ name }) => name === 'data')).toMatchObject({
        sizeBytes: 2 ** 30,
        snapshots: ['kept'],
        tags: right['rbd.ensureImage'].tags,
      });
    });

    test('a pool of files keeps images, clones, snapshots and a trash, and goes when it is empty', async () => {
      expect(await codeOf(here.call('files.status', right['files.status']))).toBe('PRECONDITION_FAILED');
      const connecting = right['files.ensureConnected'];
      expect(await codeOf(here.call('files.ensureConnected', { ...connecting, make: false }))).toBe(
        'PRECONDITION_FAILED',
      );
      for (const make of [true, true, false]) await call('files.ensureConnected', { make });
      const another = { ...connecting, poolId: randomUUID() };
      expect(await codeOf(here.call('files.ensureConnected', another)), 'the directory of another').toBe('NAME_IN_USE');
      expect((await call('files.status')).totalBytes).toBeGreaterThan(0);

      const imported = await run('files.import');
      expect(await run('files.import')).toEqual(imported);
      const making = ['files.ensureVolume', 'files.ensureClone', 'files.ensureSnapshot', 'files.ensureSeed'] as const;
      for (const name of making) {
        await twice(name);
        const foreign = { ...right[name], tags: { ...right[name].tags, id: 'foreign' } };
        const world = await look();
        expect(await codeOf(here.call(name, foreign as never)), `${name} over another's`).toBe('NAME_IN_USE');
        expect(await look()).toEqual(world);
      }
      await twice('files.ensureSize');
      expect(await codeOf(here.call('files.ensureSize', { ...right['files.ensureSize'], sizeGib: 1 }))).toBe(
        'INVALID_ARGUMENT',
      );
      await twice('files.rollBack');
      await twice('files.ensureTrashed');
      expect((await call('files.inventory')).trash).toEqual([right['files.ensureTrashed'].id]);
      await twice('files.ensureRestored');
      await twice('files.ensureAbsent', { onlyOperation: 'another' });
      const image = { poolId: connecting.poolId, of: 'image', id: right['files.import'].id } as const;
      expect(await codeOf(here.call('files.ensureAbsent', image)), 'while a clone lives on it').toBe('INVALID_STATE');
      const { files, parts } = await call('files.inventory');
      expect(files.map(({ of }) => of).sort()).toEqual(['image', 'seed', 'volume', 'volume']);
      expect(files.find(({ id }) => id === right['files.ensureVolume'].id)).toMatchObject({
        sizeBytes: 2 ** 30,
        snapshots: [right['files.ensureSnapshot'].snapshot],
        tags: right['files.ensureVolume'].tags,
      });
      expect(parts).toEqual([]);

      const high = { poolId: connecting.poolId, id: randomUUID() };
      await here.call('files.ensureVolume', { ...right['files.ensureVolume'], ...high });
      const layers = Array.from({ length: LAYERS_MAX + 1 }, () => ({ ...high, snapshot: `snap-${randomUUID()}` }));
      const [over, ...allowed] = layers;
      const { tags } = right['files.ensureSnapshot'];
      for (const layer of allowed) await here.call('files.ensureSnapshot', { ...layer, tags });
      const beyond = over && here.call('files.ensureSnapshot', { ...over, tags });
      expect(await codeOf(Promise.resolve(beyond)), 'above as many as there may be').toBe('NOT_SUPPORTED');
      for (const layer of allowed.slice(0, 1)) await here.call('files.ensureSnapshotAbsent', layer);
      if (over) await here.call('files.ensureSnapshot', { ...over, tags });
      for (const layer of layers) await here.call('files.ensureSnapshotAbsent', layer);
      await here.call('files.ensureExpunged', high);

      expect(await codeOf(here.call('files.ensurePoolAbsent', right['files.ensurePoolAbsent']))).toBe('INVALID_STATE');
      await twice('files.ensureSnapshotAbsent');
      for (const { id } of [right['files.ensureVolume'], right['files.ensureClone']])
        await twice('files.ensureExpunged', { id });
      await here.call('files.ensureAbsent', image);
      await here.call('files.ensureAbsent', { ...image, of: 'seed', id: right['files.ensureSeed'].instanceId });
      expect(await call('files.inventory')).toEqual({ files: [], trash: [], parts: [] });
      await twice('files.ensurePoolAbsent');
      await twice('files.ensureDisconnected');
    });

    test('hosts see whether others answer, and whether they leave their heartbeats', async () => {
      const [hostId, otherId] = right['heartbeat.watch'].hostIds;
      if (hostId === undefined || otherId === undefined) throw new Error('two hosts are watched');
      expect((await call('peer.probe')).signs).toEqual(['speaks']);
      // Nobody has this address: it is of a network for documents.
      const nowhere = { address: '192.0.2.1', port: 22 };
      expect((await call('peer.probe', { addresses: [nowhere], withinMs: 200 })).signs).toEqual(['silent']);

      // Who writes nothing itself knows nothing of others.
      await twice('heartbeat.ensure', { hostId: otherId }, there);
      expect(await call('heartbeat.watch', { withinMs: 100 })).toEqual({ moved: expect.anything(), still: [] });
      await twice('heartbeat.ensure');
      const both = await until('both heartbeats', async () => {
        const { moved } = await call('heartbeat.watch');
        return moved.length === 2 && moved;
      });
      expect([...both].sort()).toEqual([hostId, otherId].sort());
      expect((await call('host.metrics')).heartbeatAgeSeconds).toBeLessThan(60);
      expect(await call('heartbeat.watch', { hostIds: [randomUUID()], withinMs: 100 })).toEqual({
        moved: [],
        still: [],
      });

      for (const [host, id] of [
        [here, hostId],
        [there, otherId],
      ] as const)
        await twice('heartbeat.ensure', { hostId: id, places: [] }, host);
      expect((await call('host.metrics')).heartbeatAgeSeconds).toBeNull();
      expect(await call('heartbeat.watch', { withinMs: 100 })).toEqual({ moved: [], still: [] });
    });

    test('a guest is defined, runs, changes its disks, and goes to another host', async () => {
      await twice('domain.ensureDefined', unplugged);
      expect(await codeOf(here.call('domain.reset', right['domain.reset']))).toBe('INVALID_STATE');
      await twice('domain.ensureRunning');
      expect(await call('domain.status')).toMatchObject({ state: 'running' });
      const said = await until('a word of the guest', async () => {
        const { text } = await call('domain.serialLog');
        return text.includes('READY contract') && text;
      });
      await twice('domain.ensureEarlierSerialLog');
      expect((await call('domain.serialLog', { bytes: 1 << 20 })).text).toMatch(/^said before/);
      expect((await call('domain.serialLog', { bytes: 5 })).text.length).toBeLessThanOrEqual(Math.min(5, said.length));
      // The guest's own agent starts when all else has.
      await until('a guest that holds still', async () => (await call('domain.freeze')).frozen);
      await call('domain.thaw');
      await twice('domain.freeze');
      await twice('domain.thaw');

      await twice('domain.ensureDisk');
      await until('a watcher of the disk', async () => (await call('rbd.watchers')).addresses.length > 0);
      await twice('domain.growDisk');
      expect((await call('rbd.inventory')).images.find(({ name }) => name === 'data')?.sizeBytes).toBe(3 * 2 ** 30);
      await twice('domain.ensureDiskAbsent');
      expect(await call('rbd.watchers')).toEqual({ addresses: [] });

      await twice('domain.ensureInterface');
      const { ports } = await call('host.inventory');
      const { id: interfaceId } = right['domain.ensureInterface'].interface;
      expect(ports.map((port) => port.interfaceId)).toContain(interfaceId);
      for (const linkUp of [false, true])
        await twice('domain.ensureInterface', { interface: { ...right['domain.ensureInterface'].interface, linkUp } });
      await twice('domain.ensureInterfaceAbsent');
      const left = (await call('host.inventory')).ports;
      expect(left.map((port) => port.interfaceId)).not.toContain(interfaceId);
      // One that was plugged in goes along.
      await call('domain.ensureInterface');

      await twice('domain.ensureGoesOn');
      const gone = await run('domain.migrate');
      expect(gone.totalMs).toBeGreaterThan(0);
      expect(await codeOf(run('domain.migrate')), 'once it has gone').toBe('NOT_FOUND');
      expect(await twice('domain.ensureNotMigrating')).toMatchObject({ state: 'absent' });
      expect(await call('domain.ensureNotMigrating', {}, there)).toMatchObject({ state: 'running' });
      await twice('domain.ensureSerialLogAbsent');
      await twice('domain.ensureAbsent');
      expect(await call('domain.status', {}, there)).toMatchObject({ state: 'running' });
      expect((await call('host.inventory', {}, there)).ports.map((port) => port.interfaceId)).toContain(interfaceId);
      await twice('domain.ensureInterfaceAbsent', {}, there);
    });

    test('a guest is started anew and ends, when it is asked and when it is not', async () => {
      await run('domain.reboot', there);
      await call('domain.reset', {}, there);
      await run('domain.shutDown', there);
      expect(await call('domain.status', {}, there)).toMatchObject({ state: 'off' });
      // Here it was defined before it went, and is again.
      await there.call('domain.ensureAbsent', right['domain.ensureAbsent']);
      await call('domain.ensureDefined', unplugged);
      await call('domain.ensureRunning');
      await twice('domain.ensureOff');
      expect(await call('domain.status')).toMatchObject({ state: 'off' });
      const foreign = {
        ...right['domain.ensureDefined'],
        tags: { ...right['domain.ensureDefined'].tags, id: 'foreign' },
      };
      expect(await codeOf(here.call('domain.ensureDefined', foreign))).toBe('NAME_IN_USE');
    });

    test('everything is taken down, and all is as it was', async () => {
      for (const host of [here, there]) {
        await twice('domain.ensureAbsent', {}, host);
        await twice('domain.ensureSerialLogAbsent', {}, host);
      }
      await twice('rbd.ensureSnapshotAbsent');
      await twice('rbd.ensureImageAbsent');
      for (const image of ['root', 'seed', 'data', 'cached']) await twice('rbd.ensureExpunged', { image });
      expect(await call('rbd.inventory')).toEqual({ images: [], trash: [] });
      for (const host of [here, there]) await twice('storage.ensureDisconnected', {}, host);
      await twice('ceph.ensureUserAbsent');
      await twice('ceph.ensurePoolAbsent');
      expect(await look()).toEqual(before);
    });

    test('every call and every task was made', () => {
      expect([...made].sort()).toEqual([...Object.keys(CALLS), ...Object.keys(TASKS)].sort());
    });
  });
}
