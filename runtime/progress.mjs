/**
 * What takes long, before a person's eyes: on a terminal one line that says of each part how far it is and how long still; on a pipe one
 * line per part, when it is done. Plain JavaScript, because it is needed before any package is there.
 */
const REDRAW_MS = 250;

/** Opens the board of this process. A child that was given a channel tells its parent, who owns the terminal. */
export function openBoard(stream = process.stdout) {
  return process.send ? remoteBoard() : localBoard(stream);
}

function localBoard(stream) {
  const parts = new Map();
  let drawn = false;
  let timer;
  const erase = () => {
    if (drawn) stream.write('\r\x1b[2K');
    drawn = false;
  };
  const draw = () => {
    erase();
    if (parts.size === 0) return;
    const text = [...parts.values()].map(textOf).join(' · ');
    stream.write(text.slice(0, Math.max(20, (stream.columns ?? 80) - 1)));
    drawn = true;
  };
  const say = (line) => {
    erase();
    stream.write(`${line}\n`);
    if (stream.isTTY) draw();
  };
  return {
    say,
    begin(what, { seconds = 0 } = {}) {
      const part = { what, seconds, startedMs: performance.now(), fraction: undefined };
      const key = Symbol(what);
      parts.set(key, part);
      if (stream.isTTY) {
        timer ??= setInterval(draw, REDRAW_MS);
        timer.unref();
        draw();
      }
      const close = () => {
        parts.delete(key);
        erase();
        if (parts.size > 0) return;
        clearInterval(timer);
        timer = undefined;
      };
      return {
        at(fraction) {
          part.fraction = fraction;
        },
        end(note = '') {
          close();
          say(lineOf(what, (performance.now() - part.startedMs) / 1000, note));
        },
        drop: close,
      };
    },
  };
}

/** A board for who only takes lines. */
export const boardOf = (say) => ({
  say,
  begin(what) {
    const startedMs = performance.now();
    return { at() {}, drop() {}, end: (note = '') => say(lineOf(what, (performance.now() - startedMs) / 1000, note)) };
  },
});

/** One finished part. */
const lineOf = (what, seconds, note) =>
  `  ${what.padEnd(44)} ${seconds.toFixed(1).padStart(6)} s${note ? `  ${note}` : ''}`;

function textOf({ what, seconds, startedMs, fraction }) {
  const elapsed = (performance.now() - startedMs) / 1000;
  const left = fraction > 0.02 ? (elapsed * (1 - fraction)) / fraction : seconds - elapsed;
  const far = fraction === undefined ? `${Math.round(elapsed)} s` : `${Math.floor(fraction * 100)} %`;
  return `${what} ${far}${left >= 1 ? `, ${Math.round(left)} s left` : ''}`;
}

function remoteBoard() {
  const tell = (message) => process.send?.(message);
  let parts = 0;
  return {
    say: (line) => tell({ say: line }),
    begin(what, options = {}) {
      const part = ++parts;
      tell({ part, begin: what, ...options });
      return {
        at: (fraction) => tell({ part, fraction }),
        end: (note) => tell({ part, end: note ?? '' }),
        drop: () => tell({ part, drop: true }),
      };
    },
  };
}

/** Shows what a child tells by `openBoard`. */
export function relay(child, board) {
  const parts = new Map();
  child.on('message', (message) => {
    const { say, part, begin, seconds, fraction, end, drop } = message;
    if (say !== undefined) board.say(say);
    else if (begin !== undefined) parts.set(part, board.begin(begin, { seconds }));
    else if (fraction !== undefined) parts.get(part)?.at(fraction);
    else {
      if (drop) parts.get(part)?.drop();
      else parts.get(part)?.end(end);
      parts.delete(part);
    }
  });
  child.once('close', () => {
    for (const part of parts.values()) part.drop();
  });
}
