import type { Static } from 'typebox';
import { addressGroupsIn, contradictionsOf, type SecurityRule } from '../../model/network/securityGroup.ts';
import type { Hooks, Loaded, Reference } from '../change.ts';
import { refuseAll } from '../violation.ts';

type Rule = Static<typeof SecurityRule>;

/** The rules as they are kept, every port range with both its ends. Throws INVALID_ARGUMENT with all that can not be meant. */
export function meant(rules: readonly Rule[]): Rule[] {
  refuseAll(
    rules.flatMap((rule, index) =>
      contradictionsOf(rule).map(({ field, message }) => ({ field: `rules.${index}.${field}`, message })),
    ),
  );
  return rules.map((rule) => ({
    ...rule,
    ...(rule.fromPort === undefined ? {} : { toPort: rule.toPort ?? rule.fromPort }),
  }));
}

const rulesOf = (input: Record<string, unknown>): Rule[] => (input.rules ?? []) as Rule[];

/** Each group that rules name, once, where it is named first. */
function references(input: Record<string, unknown>): Reference[] {
  const rules = rulesOf(input);
  return addressGroupsIn(rules).map((id) => ({
    kind: 'addressGroup',
    id,
    field: `rules.${rules.findIndex(({ remoteAddressGroupId }) => remoteAddressGroupId === id)}.remoteAddressGroupId`,
  }));
}

/** Networks carry IPv4, and so do rules. */
function refuseOtherFamily(rules: readonly Rule[], loaded: Loaded): void {
  refuseAll(
    rules.flatMap(({ remoteAddressGroupId: id }, index) => {
      const family = id === undefined ? 4 : loaded.get(`addressGroup/${id}`)?.family;
      return family === 4
        ? []
        : [
            {
              field: `rules.${index}.remoteAddressGroupId`,
              message: `names a group of IPv${String(family)}; rules are for IPv4`,
            },
          ];
    }),
  );
}

export const securityGroupHooks: Hooks = {
  'securityGroup.create': {
    references,
    accept({ input, row, references: loaded }) {
      const rules = meant(rulesOf(input));
      refuseOtherFamily(rules, loaded);
      Object.assign(row, { rules, addressGroupIds: addressGroupsIn(rules) });
    },
  },
  'securityGroup.setRules': {
    references,
    accept(accepting) {
      const rules = meant(rulesOf(accepting.input));
      refuseOtherFamily(rules, accepting.references);
      accepting.workflowInput.rules = rules;
    },
  },
};
