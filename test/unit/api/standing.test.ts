import { EventEmitter } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type Koa from 'koa';
import { describe, expect, it, vi } from 'vitest';
import { type Caller, systemCaller } from '../../../acceptance/caller.ts';
import type { Authenticator } from '../../../api/authenticate.ts';
import { standingOf } from '../../../api/standing.ts';
import { Problem } from '../../../runtime/problem.ts';

const context = () => {
  const res = new EventEmitter();
  return {
    res,
    ctx: { res, ip: '127.0.0.1', state: { caller: systemCaller() }, get: () => '' } as unknown as Koa.Context,
  };
};

function authority(answer: () => Promise<Caller>): { authenticator: Authenticator; listeners: Set<() => void> } {
  const listeners = new Set<() => void>();
  const authenticator: Authenticator = {
    authenticate: answer,
    forget: () => listeners.forEach((listener) => void listener()),
    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  return { authenticator, listeners };
}

describe('an answer that stays open', () => {
  it('goes on while its caller may have it, with the rights that it has now', async () => {
    const narrower = { ...systemCaller(), homeProjects: ['p'] };
    const caller = vi.fn(async () => narrower);
    const { authenticator } = authority(caller);
    const standing = standingOf({ authenticator }, context().ctx, 'stream', () => true);
    authenticator.forget();
    await vi.waitFor(() => expect(caller.mock.calls.length).toBeGreaterThanOrEqual(2));
    await vi.waitFor(() => expect(standing.caller).toBe(narrower));
    expect(standing.signal.aborted).toBe(false);
    standing.refuse();
  });

  it('ends with what the caller would be told now', async () => {
    let allowed = true;
    const { authenticator, listeners } = authority(async () => systemCaller());
    const standing = standingOf({ authenticator }, context().ctx, 'stream', () => allowed);
    allowed = false;
    authenticator.forget();
    await vi.waitUntil(() => standing.signal.aborted);
    expect(() => standing.refuse()).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }));
    expect(listeners.size).toBe(0);
  });

  it('ends by itself with the first right that ends', async () => {
    const ends = Date.now() + 50;
    const { authenticator } = authority(async () => {
      if (Date.now() >= ends) throw new Problem('UNAUTHENTICATED', 'the key has ended');
      return { ...systemCaller(), key: { patterns: ['*'], cidrs: [], endsAt: ends } };
    });
    const standing = standingOf({ authenticator }, context().ctx, 'stream', () => true);
    await vi.waitUntil(() => standing.signal.aborted);
    expect(() => standing.refuse()).toThrow(expect.objectContaining({ code: 'UNAUTHENTICATED' }));
  });

  it('ends with its connection, and is asked about no more', async () => {
    const { authenticator, listeners } = authority(async () => systemCaller());
    const { ctx, res } = context();
    const standing = standingOf({ authenticator }, ctx, 'stream', () => true);
    res.emit('close');
    expect([standing.signal.aborted, listeners.size]).toEqual([true, 0]);
    standing.refuse();
  });

  it('is opened in no other way', () => {
    const folder = new URL('../../../api/', import.meta.url);
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts') && name !== 'standing.ts')) {
      const text = readFileSync(new URL(file, folder), 'utf8');
      if (/respond = false|Readable\.from|waitForEnd\(api|receiveImage\(/.test(text))
        expect([file, text]).toEqual([file, expect.stringContaining('standingOf(')]);
      expect([file, /new AbortController/.test(text)]).toEqual([file, false]);
    }
  });
});
