import { describe, expect, it } from 'vitest';
import { LIBVIRT_CODE, LibvirtError, type LibvirtSession } from '../../../host-agent/agent/libvirt.ts';
import { ensureGoesOn, ensureNotMigrating } from '../../../host-agent/agent/migration.ts';
import type { TypedParameters } from '../../../host-agent/agent/xdr.ts';

const id = '11111111-1111-4111-8111-111111111111';
const domain = { name: `instance-${id}`, uuid: id, id: 7 };
const migrationOut = 5;
const job = (type: number): { type: number; parameters: TypedParameters } => ({
  type,
  parameters: new Map([['operation', { type: 'int', value: migrationOut }]]),
});

/** A libvirt that answers one look after the other; the last one stays. Counts how often it was asked to abort. */
function libvirtThat(looks: (() => { type: number; parameters: TypedParameters } | null)[], abort: () => void) {
  const aborts: number[] = [];
  let look = 0;
  let present = true;
  const session: Partial<LibvirtSession> = {
    lookup: async () => (present ? domain : null),
    metadata: async () => `<b:instance xmlns:b="urn:x" id="${id}" kind="instance" operation="o" revision="1"/>`,
    state: async () => ({ state: 1, reason: 1 }),
    async jobStatistics() {
      look += 1;
      const next = looks[Math.min(look, looks.length) - 1]?.() ?? null;
      if (next) return next;
      present = false;
      throw new LibvirtError(LIBVIRT_CODE.noDomain, 'gone');
    },
    async abortJob() {
      aborts.push(look);
      abort();
    },
  };
  return { context: { libvirt: { session: async () => session } } as never, session, aborts };
}

describe('a migration that nobody remembers', () => {
  it('is aborted in libvirt, and the answer waits until it has come to rest', async () => {
    const { context, aborts } = libvirtThat([() => job(1), () => job(1), () => job(0)], () => {});
    expect(await ensureNotMigrating(context, id)).toEqual({ state: 'running', reason: 'booted' });
    expect(aborts).toEqual([1, 2]);
  });

  it('that is just switching over is asked for until it is known where the guest is', async () => {
    const busy = (): never => {
      throw new LibvirtError(68, 'cannot acquire state change lock');
    };
    const late = (): void => {
      throw new LibvirtError(LIBVIRT_CODE.operationInvalid, 'cannot abort job');
    };
    const { context, aborts } = libvirtThat([() => job(1), busy, () => job(3), () => null], late);
    expect(await ensureNotMigrating(context, id)).toEqual({ state: 'absent', reason: 'absent' });
    expect(aborts).toEqual([1, 3]);
  });

  it('there is none of: nothing is aborted', async () => {
    const { context, aborts } = libvirtThat([() => job(0)], () => {});
    expect(await ensureNotMigrating(context, id)).toMatchObject({ state: 'running' });
    expect(aborts).toEqual([]);
  });

  it('is not called ended while libvirt is away', async () => {
    const context = { libvirt: { session: () => Promise.reject(new Error('libvirt is away')) } } as never;
    await expect(ensureNotMigrating(context, id)).rejects.toThrow('libvirt is away');
  });
});

describe('a guest that a migration has left holding still', () => {
  const pausedForMigration = { state: 3, reason: 2 };
  const pausedByUser = { state: 3, reason: 1 };
  const resumedAt = async (state: { state: number; reason: number }, type: number) => {
    const { context, session } = libvirtThat([() => job(type)], () => {});
    const resumed: string[] = [];
    session.state = async () => state;
    session.resume = async ({ uuid }) => void resumed.push(uuid);
    await ensureGoesOn(context, id);
    return resumed;
  };

  it('goes on once there is no migration any more', async () => {
    expect(await resumedAt(pausedForMigration, 0)).toEqual([id]);
  });

  it('is left as it is while one is under way, and so is what somebody else has paused', async () => {
    await expect(resumedAt(pausedForMigration, 1)).rejects.toMatchObject({ code: 'INVALID_STATE', retryable: true });
    expect(await resumedAt(pausedByUser, 0)).toEqual([]);
  });
});
