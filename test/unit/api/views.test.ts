import { expect, it } from 'vitest';
import { views } from '../../../api/views.ts';
import { allKinds } from '../../../model/kinds.ts';
import { viewsOf } from '../../../model/views.ts';

it('every view that a kind declares is answered, and no other', () => {
  const declared = allKinds.flatMap((kind) =>
    Object.keys(viewsOf(kind)).map((view) => (view === 'deletePlan' ? view : `${kind.name}.${view}`)),
  );
  expect([...new Set(declared)].sort()).toEqual(Object.keys(views).sort());
});
