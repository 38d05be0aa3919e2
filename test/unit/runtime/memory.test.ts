import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { nodeArguments } from '../../../runtime/node.mjs';

/** Leaves much behind, then rests until half of its heap is given back. */
const program = `
  import { getHeapStatistics } from 'node:v8';
  import { shrinkAtRest } from '${new URL('../../../runtime/memory.ts', import.meta.url).href}';
  const bytes = () => getHeapStatistics().total_heap_size;
  shrinkAtRest(50);
  let kept = [];
  for (let n = 0; n < 3_000_000; n++) kept[n % 500_000] = { n };
  kept = [];
  const grown = bytes();
  while (bytes() > grown / 2) await new Promise((done) => setTimeout(done, 50));
  console.log('given back');
  process.exit(0);
`;

test('a process that rests gives back what its work has left behind', async () => {
  const args = [...nodeArguments, '--input-type=module', '--eval', program];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 60_000 });
  expect(stdout.trim()).toBe('given back');
});
