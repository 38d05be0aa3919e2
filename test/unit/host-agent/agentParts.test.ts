import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { setKeys } from '../../../host-agent/agent/configFile.ts';
import { domainStatus, lifecycleChange } from '../../../host-agent/agent/domainState.ts';
import { parseCpuSeconds, parseNetDev } from '../../../host-agent/agent/facts.ts';
import { checkImageInfo, inParts, seedFiles } from '../../../host-agent/agent/images.ts';
import { keyedMutex } from '../../../host-agent/agent/keyedMutex.ts';
import { type TaskContext, type TaskHandlers, taskRegistry } from '../../../host-agent/agent/tasks.ts';
import { Problem } from '../../../host-agent/problem.ts';
import { checkCall, readTask } from '../../../host-agent/requests.ts';

const cluster = '11111111-1111-4111-8111-111111111111';

describe('the input of a call', () => {
  const image = { storageClusterId: cluster, pool: 'fast', image: 'volume-1' };

  it.each(['a;b', '../x', '-x', '', 'a b', 'a/b', 'a@b', 'a\nb', '$(x)', 'x'.repeat(129)])(
    'has no image called %j',
    (name) => {
      expect(() => checkCall('rbd.ensureTrashed', { ...image, image: name })).toThrow(Problem);
    },
  );

  it('is taken when it is right, and refused with anything more: that may be what makes it harmless', () => {
    expect(checkCall('rbd.ensureTrashed', image)).toBe('rbd.ensureTrashed');
    expect(() => checkCall('rbd.ensureTrashed', { ...image, unlessInUse: true })).toThrow('/unlessInUse is not known');
  });

  it('holds addresses that are addresses', () => {
    const input = {
      id: cluster,
      targetAddress: '10.0.0.1',
      cephUsers: {},
      bandwidthBytesPerSec: null,
      autoConverge: false,
    };
    const read = (more: object) => readTask({ name: 'domain.migrate', input: { ...input, ...more } });
    expect(read({})).toEqual({ name: 'domain.migrate', input });
    for (const targetAddress of ['10.0.0.256', 'host1', '10.0.0.1/x', '1:2']) {
      expect(() => read({ targetAddress })).toThrow(/targetAddress/);
    }
  });

  it('is refused without repeating a secret', () => {
    const access = { storageClusterId: cluster, monitors: ['m:1'], fsid: cluster, user: 'admin', key: 'not base64 !' };
    let message = '';
    try {
      checkCall('ceph.status', { access });
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain('/access/key');
    expect(message).not.toContain('not base64');
  });
});

describe('a configuration file', () => {
  it('keeps what is not ours, replaces a set key and adds a missing one', () => {
    const before = '# user = "qemu"\nuser = "root"\nlisten_tls = 0\n\ncgroup_controllers = [ ]\n';
    expect(setKeys(before, { listen_tls: '1', listen_addr: '"10.0.0.1"' })).toBe(
      '# user = "qemu"\nuser = "root"\nlisten_tls = 1\n\ncgroup_controllers = [ ]\nlisten_addr = "10.0.0.1"\n',
    );
    expect(setKeys('', { LIBVIRTD_ARGS: '"--listen"' }, '=')).toBe('LIBVIRTD_ARGS="--listen"\n');
  });

  it('does not change when it is set twice', () => {
    const once = setKeys('a = 1\n', { b: '2' });
    expect(setKeys(once, { b: '2' })).toBe(once);
  });
});

describe('states of libvirt in words', () => {
  it('tells a crash from an orderly end', () => {
    expect(domainStatus({ state: 5, reason: 1 })).toEqual({ state: 'off', reason: 'shutdown' });
    expect(domainStatus({ state: 5, reason: 3 })).toEqual({ state: 'crashed', reason: 'crashed' });
    expect(domainStatus({ state: 3, reason: 5 })).toEqual({ state: 'paused', reason: 'ioerror' });
    expect(lifecycleChange(5, 5)).toEqual({ type: 'domain.crashed', reason: 'crashed' });
    expect(lifecycleChange(5, 0)).toEqual({ type: 'domain.stopped', reason: 'shutdown' });
    expect(lifecycleChange(2, 1)).toEqual({ type: 'domain.started', reason: 'migrated' });
    expect(lifecycleChange(0, 0)).toBeUndefined();
  });
});

describe('a fetched image', () => {
  const info = { format: 'qcow2', 'virtual-size': 1024 };
  it.each([
    ['another format', { ...info, format: 'vmdk' }, /is vmdk/],
    ['a backing file', { ...info, 'backing-filename': '/etc/shadow' }, /backing file/],
    ['data elsewhere', { ...info, 'format-specific': { data: { 'data-file': '/etc/shadow' } } }, /another file/],
    ['no content', { ...info, 'virtual-size': 0 }, /empty/],
  ])('is refused for %s', (_why, found, message) => {
    expect(() => checkImageInfo(found, 'qcow2')).toThrow(message);
  });
  it('is taken otherwise', () => {
    expect(() => checkImageInfo(info, 'qcow2')).not.toThrow();
  });
});

describe('a seed', () => {
  it('quotes what YAML would read as something else than text', () => {
    const files = seedFiles({
      instanceId: '12e3',
      hostname: 'web-1',
      sshKeys: ['ssh-ed25519 AAAA a: b'],
      userData: null,
      userDataEncoding: 'plain',
    });
    expect(files['meta-data']).toBe(
      'instance-id: "12e3"\nlocal-hostname: web-1\npublic-keys:\n  - "ssh-ed25519 AAAA a: b"\n',
    );
    expect(files['user-data']).toBe('#cloud-config\n{}\n');
    expect(
      seedFiles({ instanceId: 'i', hostname: 'no', sshKeys: [], userData: 'x', userDataEncoding: 'plain' })[
        'meta-data'
      ],
    ).toBe('instance-id: i\nlocal-hostname: "no"\n');
  });
});

it('a seed holds the bytes that user data in base64 stands for', () => {
  const bytes = gzipSync('#!/bin/sh\necho from gzip\n');
  const seed = { instanceId: 'i', hostname: 'web', sshKeys: [], userData: bytes.toString('base64') };
  expect(seedFiles({ ...seed, userDataEncoding: 'base64' })['user-data']).toEqual(bytes);
  expect(seedFiles({ ...seed, userDataEncoding: 'plain' })['user-data']).toBe(seed.userData);
});

describe('figures of the kernel', () => {
  it('are read from their files', () => {
    expect(parseCpuSeconds('cpu  100 50 50 9000 1000 0 0 0 0 0\ncpu0 1 1 1 1\n')).toBe(2);
    const text =
      'Inter-|\n face |\n    lo: 5 0 0 0 0 0 0 0 5 0\n  eth0: 100 1 0 0 0 0 0 0 200 1\n vnet0: 9 0 0 0 0 0 0 0 9 0\n';
    expect(parseNetDev(text)).toEqual({ received: 100, sent: 200 });
  });
});

describe('work with a key', () => {
  it('runs in the order in which it came, and beside work with another key', async () => {
    const inTurn = keyedMutex();
    const order: string[] = [];
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const first = inTurn('a', async () => {
      await held;
      order.push('first');
      throw new Error('failed');
    });
    const second = inTurn('a', async () => order.push('second'));
    await inTurn('b', async () => order.push('other'));
    release();
    await expect(first).rejects.toThrow('failed');
    await second;
    expect(order).toEqual(['other', 'first', 'second']);
  });
});

describe('tasks', () => {
  function registry(migrate: TaskHandlers['domain.migrate']) {
    const never = () => Promise.reject(new Error('not in this test'));
    const handlers: TaskHandlers = {
      'host.probe': never,
      'domain.shutDown': never,
      'domain.reboot': never,
      'image.import': never,
      'files.import': never,
      'domain.migrate': migrate,
    };
    return taskRegistry(handlers);
  }
  const input = {
    id: cluster,
    targetAddress: '10.0.0.1',
    cephUsers: {},
    bandwidthBytesPerSec: null,
    autoConverge: false,
  };
  const result = { downtimeMs: 1, totalMs: 2, transferredBytes: 3 };
  const untilAborted = (context: TaskContext) =>
    new Promise<never>((_resolve, reject) => {
      context.signal.addEventListener('abort', () => reject(new Error('cancelled')));
    });

  it('run once however often they are started', async () => {
    let runs = 0;
    const tasks = registry(async () => {
      runs += 1;
      return result;
    });
    tasks.start('t', 'domain.migrate', input);
    tasks.start('t', 'domain.migrate', input);
    expect(await tasks.wait('t', 1_000)).toMatchObject({ state: 'succeeded', progress: 100, result });
    tasks.start('t', 'domain.migrate', input);
    expect(runs).toBe(1);
    expect(() => tasks.start('t', 'host.probe', {})).toThrow(/is a domain.migrate/);
  });

  it('tell their progress to those who wait, and never go back', async () => {
    let context: TaskContext | undefined;
    const tasks = registry((_input, given) => {
      context = given;
      return untilAborted(given);
    });
    tasks.start('t', 'domain.migrate', input);
    const waiting = tasks.wait('t', 10_000);
    context?.progress(40.7);
    context?.progress(30);
    expect(await waiting).toMatchObject({ state: 'running', progress: 40 });
    expect(tasks.running()).toEqual(['t']);
    expect(await tasks.cancel('t')).toMatchObject({ state: 'cancelled' });
    expect(tasks.running()).toEqual([]);
  });

  it('that failed are tried again, and say why meanwhile', async () => {
    let runs = 0;
    const tasks = registry(async () => {
      runs += 1;
      if (runs === 1) throw new Problem('BACKEND_UNAVAILABLE', 'away', true);
      return result;
    });
    tasks.start('t', 'domain.migrate', input);
    expect(await tasks.wait('t', 1_000)).toMatchObject({
      state: 'failed',
      problem: { code: 'BACKEND_UNAVAILABLE', retryable: true },
    });
    tasks.start('t', 'domain.migrate', input);
    expect(await tasks.wait('t', 1_000)).toMatchObject({ state: 'succeeded' });
    await expect(tasks.wait('unknown', 1)).rejects.toThrow(/no task/);
  });
});

describe('a raw image on its way into a pool', () => {
  it('is cut into parts of equal size, whatever it comes in', async () => {
    const whole = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251));
    for (const chunkBytes of [1, 7, 99, 100, 101, 1000]) {
      async function* chunks(): AsyncGenerator<Buffer> {
        for (let at = 0; at < whole.length; at += chunkBytes) yield whole.subarray(at, at + chunkBytes);
      }
      const parts: Buffer[] = [];
      for await (const part of inParts(chunks(), 300)) parts.push(part);
      expect(parts.map(({ length }) => length)).toEqual([300, 300, 300, 100]);
      expect(Buffer.concat(parts).equals(whole)).toBe(true);
    }
  });
});
