import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

export const findingHooks: Hooks = {
  'finding.ignore': {
    accept({ row, input }) {
      if (!(Date.parse(String(input.until)) > Date.now())) throw invalid('until', 'must be in the future');
      row.ignoredUntil = input.until;
      row.ignoreReason = input.reason;
    },
  },
};
