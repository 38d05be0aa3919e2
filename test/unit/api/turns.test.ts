import { describe, expect, it } from 'vitest';
import { type Turns, turnsOf } from '../../../api/turns.ts';

/** Asks for a place, and tells in which order they were had. */
function asker(turns: Turns) {
  const had: string[] = [];
  const back = new Map<string, (() => void)[]>();
  return {
    had,
    ask(account: string, times = 1): void {
      for (let n = 0; n < times; n++)
        void turns.take(account).then((giveBack) => {
          had.push(account);
          back.set(account, [...(back.get(account) ?? []), giveBack]);
        });
    },
    giveBack: (account: string): void => back.get(account)?.shift()?.(),
  };
}
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('places that accounts take turns at', () => {
  it('are as many as it likes for the one who is alone, and nobody who comes waits for it', async () => {
    const { had, ask } = asker(turnsOf(8, { alone: 6 }));
    ask('a', 20);
    await soon();
    expect(had).toHaveLength(6);
    ask('b', 5);
    ask('c', 5);
    await soon();
    // An even share of eight among two, then among three.
    expect(had.slice(6)).toEqual(['b', 'b', 'b', 'b', 'c', 'c']);
  });

  it('are as many as others leave, however many one asks for', async () => {
    const { had, ask, giveBack } = asker(turnsOf(4));
    ask('a', 100);
    await soon();
    for (const account of ['b', 'c', 'd']) ask(account);
    await soon();
    expect(had).toEqual(['a', 'a', 'a', 'a', 'b', 'c', 'd']);
    for (let n = 0; n < 3; n++) giveBack('a');
    await soon();
    expect(had).toHaveLength(7);
    giveBack('a');
    await soon();
    expect(had.slice(7)).toEqual(['a']);
  });

  it('are never less than a few, however many accounts there are', async () => {
    const { had, ask } = asker(turnsOf(4, { least: 2 }));
    for (let n = 0; n < 10; n++) ask(`account ${n}`, 3);
    await soon();
    expect(had).toHaveLength(4 + 9 * 2 - 1);
  });

  it('are given back once, and to the next', async () => {
    const turns = turnsOf(1);
    const back = await turns.take('a');
    back();
    back();
    await turns.take('a');
    let third = false;
    void turns.take('a').then(() => {
      third = true;
    });
    await soon();
    expect(third).toBe(false);
  });

  it('let no account wait without end', async () => {
    const turns = turnsOf(1);
    await turns.take('a');
    for (let n = 0; n < 1_000; n++) void turns.take('a');
    await expect(turns.take('a')).rejects.toMatchObject({ code: 'RATE_LIMITED' });
    await turns.take('b');
  });
});
