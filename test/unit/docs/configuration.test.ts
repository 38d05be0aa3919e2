import { describe, expect, it } from 'vitest';
import { declaredSettings } from '../../../model/platform/declaredSettings.ts';
import { readText, rowsOf } from './documentation.ts';

const told = new Set(rowsOf(readText('docs/configuration.md')).map(([name]) => name));
const variablesOf = (path: string): string[] => [
  ...new Set(readText(path).match(/\b(?:BELAY_[A-Z_]+|DATABASE_URL)\b/g)),
];

describe('docs/configuration.md', () => {
  it.each([
    'runtime/config.ts',
    'lab/stack.ts',
    'lab/ports.ts',
    'runtime/node.mjs',
    'workers/host.ts',
    'workers/control.ts',
  ])('tells every variable of %s', (path) => expect(variablesOf(path).filter((name) => !told.has(name))).toEqual([]));

  it('tells every setting', () => {
    expect(Object.keys(declaredSettings).filter((name) => !told.has(name))).toEqual([]);
  });
});
