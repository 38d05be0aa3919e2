import type { Family } from '../../model/network/ipAddress.ts';
import {
  addressGroupsIn,
  contradictionsOf,
  familyOf,
  type Rule,
  securityGroupsIn,
} from '../../model/network/securityGroup.ts';
import type { Hooks, Loaded, Reference, Row } from '../change.ts';
import { refuseAll } from '../violation.ts';

/**
 * The rules as they are kept: every port range with both its ends, and said what each is for. `familyOfGroup` tells that of an address group. Throws
 * INVALID_ARGUMENT with all that can not be meant.
 */
export function meant(
  rules: readonly Rule[],
  familyOfGroup: (addressGroupId: string) => Family | undefined = () => undefined,
): Rule[] {
  const ofGroup = ({ remoteAddressGroupId: id }: Rule): Family | undefined =>
    id === undefined ? undefined : familyOfGroup(id);
  refuseAll(
    rules.flatMap((rule, index) => {
      const family = familyOf(rule, ofGroup(rule));
      // Beside a network it is no remote at all.
      const other = rule.remoteCidr === undefined ? (ofGroup(rule) ?? family) : family;
      return [
        ...contradictionsOf(rule),
        ...(other === family
          ? []
          : [
              {
                field: 'remoteAddressGroupId',
                message: `names a group of IPv${other}, and the rule is for IPv${family}`,
              },
            ]),
      ].map(({ field, message }) => ({ field: `rules.${index}.${field}`, message }));
    }),
  );
  return rules.map((rule) => ({
    ...rule,
    family: familyOf(rule, ofGroup(rule)),
    enabled: rule.enabled ?? true,
    ...(rule.fromPort === undefined ? {} : { toPort: rule.toPort ?? rule.fromPort }),
  }));
}

const rulesOf = (input: Record<string, unknown>): Rule[] => (input.rules ?? []) as Rule[];

/** Each group that rules name, once, where it is named first. A group that is about to be made names itself by the id that it asks for. */
function references(input: Record<string, unknown>): Reference[] {
  const rules = rulesOf(input);
  const named = (kind: string, field: 'remoteAddressGroupId' | 'remoteSecurityGroupId', ids: string[]): Reference[] =>
    ids.map((id) => ({ kind, id, field: `rules.${rules.findIndex((rule) => rule[field] === id)}.${field}` }));
  return [
    ...named('addressGroup', 'remoteAddressGroupId', addressGroupsIn(rules)),
    ...named(
      'securityGroup',
      'remoteSecurityGroupId',
      securityGroupsIn(rules).filter((id) => id !== input.requestedId),
    ),
  ];
}

/** OVN knows a group by the ports that carry it, and those of another zone are not to be reached from here. */
function refuseOtherZone(rules: readonly Rule[], { id: own, zoneId }: Row, loaded: Loaded): void {
  refuseAll(
    rules.flatMap(({ remoteSecurityGroupId: id }, index) =>
      id === undefined || id === own || loaded.get(`securityGroup/${id}`)?.zoneId === zoneId
        ? []
        : [{ field: `rules.${index}.remoteSecurityGroupId`, message: 'names a group of another zone' }],
    ),
  );
}

function accepted(input: Record<string, unknown>, row: Row, loaded: Loaded): Rule[] {
  const rules = meant(rulesOf(input), (id) => loaded.get(`addressGroup/${id}`)?.family as Family | undefined);
  refuseOtherZone(rules, row, loaded);
  return rules;
}

export const securityGroupHooks: Hooks = {
  'securityGroup.create': {
    references,
    accept({ input, row, references: loaded }) {
      const rules = accepted(input, row, loaded);
      Object.assign(row, {
        rules,
        addressGroupIds: addressGroupsIn(rules),
        remoteSecurityGroupIds: securityGroupsIn(rules),
      });
    },
  },
  'securityGroup.setRules': {
    references,
    accept(accepting) {
      accepting.workflowInput.rules = accepted(accepting.input, accepting.row, accepting.references);
    },
  },
};
