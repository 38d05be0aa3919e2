import { appendFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PATHS } from '../../../host-agent/agent/paths.ts';
import {
  ensureEarlierSerialLog,
  ensureSerialLogAbsent,
  readSerialLog,
  serialLogPath,
  tailOfSerialLog,
} from '../../../host-agent/agent/serial.ts';

const id = '11111111-1111-4111-8111-111111111111';
const usual = PATHS.serialLogs;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-serial-'));
  Object.assign(PATHS, { serialLogs: folder });
});
afterEach(() => {
  Object.assign(PATHS, { serialLogs: usual });
  rmSync(folder, { recursive: true });
});

const say = (text: string): void => appendFileSync(serialLogPath(id), text);

function follow(arrived = false) {
  const stop = new AbortController();
  const heard = { text: '' };
  const ended = (async () => {
    for await (const chunk of readSerialLog(id, true, stop.signal, arrived)) heard.text += chunk.toString();
  })();
  const until = async (text: string): Promise<void> => {
    while (heard.text !== text) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  return { heard, ended, until, stop };
}
async function read(arrived = false): Promise<string> {
  let text = '';
  for await (const chunk of readSerialLog(id, false, new AbortController().signal, arrived)) text += chunk.toString();
  return text;
}

test('the stream of a guest that leaves ends with its last word', async () => {
  say('one ');
  const { heard, ended, until } = follow();
  await until('one ');
  say('two ');
  await until('one two ');
  say('last');
  ensureSerialLogAbsent(id);
  await ended;
  expect(heard.text).toBe('one two last');
  expect(readdirSync(folder)).toEqual([]);
  // Who asks only now does not wait for what never comes.
  await follow().ended;
});

test('a guest that comes back is followed again', async () => {
  say('gone');
  ensureSerialLogAbsent(id);
  say('back ');
  const { until, stop, ended } = follow();
  await until('back ');
  say('again');
  await until('back again');
  stop.abort();
  await ended;
});

test('what was said elsewhere is told first, and not to those who heard it there', async () => {
  await ensureEarlierSerialLog(id, 'there, ');
  expect(await read()).toBe('there, ');
  say('here');
  expect(await read()).toBe('there, here');
  expect(await read(true)).toBe('here');
  expect(await tailOfSerialLog(id, 100)).toBe('there, here');
  expect(await tailOfSerialLog(id, 6)).toBe(', here');
  expect(await tailOfSerialLog(id, 2)).toBe('re');
  ensureSerialLogAbsent(id);
  expect(await read()).toBe('');
});
