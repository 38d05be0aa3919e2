import { columnsOf } from '../model/columns.ts';
import { allKinds } from '../model/kinds.ts';
import { written } from './statement.ts';

/**
 * Where else an id may stand than in `identity`, which has those of all resources there ever were: ids of what only the platform
 * writes, and the far ends of grants and limits, which are no foreign keys.
 */
const places = [
  { table: 'identity', column: 'id' },
  ...allKinds.flatMap((kind) =>
    kind.readOnly
      ? [{ table: kind.name, column: 'id' }]
      : columnsOf(kind)
          .filter(({ name, type, ref }) => type === 'uuid' && name !== 'id' && ref === undefined)
          .map(({ name }) => ({ table: kind.name, column: name })),
  ),
];

/** Whether anything has or had an id, or something leads to it. */
export const idIsTaken = written<{ taken: boolean }, { id: string }>(
  `SELECT ${places
    .map(({ table, column }) => `EXISTS (SELECT 1 FROM "${table}" WHERE "${column}" = $id::uuid)`)
    .join(' OR ')} AS taken`,
);
