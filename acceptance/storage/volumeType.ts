import type { Hooks, Row } from '../change.ts';
import { invalid } from '../violation.ts';

function inOrder(type: Row, input: Record<string, unknown>): void {
  const of = (name: string): number => Number(input[name] ?? type[name]);
  if (of('minSizeGib') > of('maxSizeGib'))
    throw invalid(
      input.maxSizeGib === undefined ? 'minSizeGib' : 'maxSizeGib',
      'leaves no size between least and most',
    );
}

export const volumeTypeHooks: Hooks = {
  'volumeType.create': { accept: ({ row, input }) => inOrder(row, input) },
  'volumeType.update': { accept: ({ row, input }) => inOrder(row, input) },
};
