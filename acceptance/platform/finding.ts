import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';
import { loadAll } from '../load.ts';
import { invalid } from '../violation.ts';

export const findingHooks: Hooks = {
  'finding.scan': {
    async accept({ tx, input: { scope, id } }) {
      if (id === undefined) return;
      if (scope !== 'host' && scope !== 'storagePool') throw invalid('id', 'goes with the scope host or storagePool');
      if ((await loadAll(tx, [{ kind: scope, id: String(id) }])).size === 0)
        throw new Problem('NOT_FOUND', `there is no ${scope} ${String(id)}`);
    },
  },
  'finding.repair': {
    refuse({ id, repair }) {
      if (repair === null)
        throw new Problem(
          'PRECONDITION_FAILED',
          `nothing is known that would mend finding ${id}: a person must find a way`,
        );
    },
  },
  'finding.ignore': {
    accept({ row, input }) {
      if (!(Date.parse(String(input.until)) > Date.now())) throw invalid('until', 'must be in the future');
      row.ignoredUntil = input.until;
      row.ignoreReason = input.reason;
    },
  },
};
