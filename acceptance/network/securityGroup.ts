import type { Static } from 'typebox';
import { contradictionsOf, type SecurityRule } from '../../model/network/securityGroup.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';

type Rule = Static<typeof SecurityRule>;

/** The rules as they are kept, every port range with both its ends. Throws INVALID_ARGUMENT with all that can not be meant. */
export function meant(rules: readonly Rule[]): Rule[] {
  const violations = rules.flatMap((rule, index) =>
    contradictionsOf(rule).map(({ field, message }) => ({ field: `rules.${index}.${field}`, message })),
  );
  const [first] = violations;
  if (first) throw new Problem('INVALID_ARGUMENT', `${first.field} ${first.message}`, { violations });
  return rules.map((rule) => ({
    ...rule,
    ...(rule.fromPort === undefined ? {} : { toPort: rule.toPort ?? rule.fromPort }),
  }));
}

export const securityGroupHooks: Hooks = {
  'securityGroup.create': {
    accept({ input, row }) {
      row.rules = meant((input.rules ?? []) as Rule[]);
    },
  },
  'securityGroup.setRules': {
    accept(accepting) {
      accepting.workflowInput.rules = meant(accepting.input.rules as Rule[]);
    },
  },
};
