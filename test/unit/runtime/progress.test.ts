import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { openBoard } from '../../../runtime/progress.mjs';

function terminal(isTTY: boolean): { stream: NodeJS.WriteStream; written: () => string } {
  let text = '';
  const stream = new Writable({
    write(chunk, _, done) {
      text += String(chunk);
      done();
    },
  });
  return {
    stream: Object.assign(stream, { isTTY, columns: 60 }) as unknown as NodeJS.WriteStream,
    written: () => text,
  };
}

describe('progress', () => {
  it('a pipe gets one line per part, when it is done, and no control characters', () => {
    const { stream, written } = terminal(false);
    const board = openBoard(stream);
    const packages = board.begin('packages', { seconds: 40 });
    const guest = board.begin('guest');
    packages.at(0.5);
    guest.drop();
    packages.end('500');
    expect(written()).toMatch(/^ {2}packages +0\.0 s {2}500\n$/);
  });

  it('a terminal shows how far each part is and how long still, in one line that gives way to others', () => {
    const { stream, written } = terminal(true);
    const board = openBoard(stream);
    const packages = board.begin('packages', { seconds: 40 });
    board.begin('guest', { seconds: 9 });
    packages.at(0.25);
    board.say('a line');
    const [, last] = written().split('a line\n');
    expect(last).toMatch(/^packages 25 %.* · guest 0 s, 9 s left$/);
    expect(written()).toContain('\r\x1b[2Ka line\n');
  });
});
