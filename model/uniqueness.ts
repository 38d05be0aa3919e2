/** All that is unique, by the name of the index that keeps it so. */
import type { Kind, Unique } from './kind.ts';
import { allKinds } from './kinds.ts';

export interface Uniqueness {
  kind: Kind;
  unique: Unique;
}

export const indexOf = (kind: Kind, { fields }: Unique): string => `${kind.name}_${fields.join('_')}_living`;

/** Whether an index is one of these, declared still or not. */
export const isUniqueness = (index: string): boolean => index.endsWith('_living');

export const uniquenesses: ReadonlyMap<string, Uniqueness> = new Map(
  allKinds.flatMap((kind) => (kind.unique ?? []).map((unique) => [indexOf(kind, unique), { kind, unique }])),
);
