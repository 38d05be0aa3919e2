import { contradictionsIn, type Entry } from '../../model/network/addressGroup.ts';
import type { Hooks } from '../change.ts';
import { refuseAll } from '../violation.ts';
import { refuseIntricatePolicies } from './firewallPolicy.ts';

/** @throws Problem INVALID_ARGUMENT with all that can not be meant */
function refuseContradictions(family: number, entries: readonly Entry[]): void {
  refuseAll(
    contradictionsIn(family, entries).map(({ index, field, message }) => ({
      field: `entries.${index}.${field}`,
      message,
    })),
  );
}

export const addressGroupHooks: Hooks = {
  'addressGroup.create': {
    accept({ row }) {
      refuseContradictions(Number(row.family), row.entries as Entry[]);
    },
  },
  'addressGroup.setEntries': {
    async accept({ tx, row, input }) {
      const entries = input.entries as Entry[];
      refuseContradictions(Number(row.family), entries);
      await refuseIntricatePolicies({ tx, row }, entries);
    },
  },
};
