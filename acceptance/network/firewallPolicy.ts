import { type NamingPolicy, policiesNaming } from '../../database/networks.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import type { Entry } from '../../model/network/addressGroup.ts';
import {
  contradictionsIn,
  groupsIn,
  type PolicyDefaults,
  type PolicyRule,
} from '../../model/network/firewallPolicy.ts';
import { firewallRows, TooIntricate } from '../../model/network/firewallRows.ts';
import type { Family } from '../../model/network/ipAddress.ts';
import {
  type Accepting,
  type Hold,
  type Hooks,
  type Loaded,
  type Reference,
  type Related,
  type Scene,
  tell,
} from '../change.ts';
import { invalid, refuseAll } from '../violation.ts';

/** The rules as they are kept: every port range with both its ends, and said what else each would be. Throws INVALID_ARGUMENT with all that can not be meant. */
export function meantRules(
  rules: readonly PolicyRule[],
  familyOfGroup: (addressGroupId: string) => Family | undefined = () => undefined,
): PolicyRule[] {
  refuseAll(
    contradictionsIn(rules, familyOfGroup).map(({ index, field, message }) => ({
      field: `rules.${index}.${field}`,
      message,
    })),
  );
  return rules.map((rule) => ({
    ...rule,
    enabled: rule.enabled ?? true,
    stateful: rule.stateful ?? true,
    log: rule.log ?? false,
    ...(rule.fromPort === undefined ? {} : { toPort: rule.toPort ?? rule.fromPort }),
  }));
}

const rulesOf = (input: Record<string, unknown>): PolicyRule[] => (input.rules ?? []) as PolicyRule[];

/** Each group that rules name, once, where it is named first. */
function references(input: Record<string, unknown>): Reference[] {
  const rules = rulesOf(input);
  return groupsIn(rules).map((id) => {
    const index = rules.findIndex((rule) => groupsIn([rule]).includes(id));
    const end = rules[index]?.source?.addressGroupId === id ? 'source' : 'destination';
    return { kind: 'addressGroup', id, field: `rules.${index}.${end}.addressGroupId` };
  });
}

const cidrs = (entries: unknown): string[] => ((entries ?? []) as Entry[]).map(({ cidr }) => cidr);

/** Asks how much a policy comes to, and throws INVALID_ARGUMENT for what hosts are not given. */
function refuseIntricate(
  field: string,
  policy: { rules: readonly PolicyRule[]; defaults: PolicyDefaults },
  entriesOf: (addressGroupId: string) => readonly string[],
  whose = '',
): void {
  try {
    firewallRows('', policy, entriesOf);
  } catch (error) {
    if (!(error instanceof TooIntricate)) throw error;
    throw invalid(
      field,
      `come to more${whose} than a host is given: fewer rules that allow, or fewer networks in them, before such that deny`,
    );
  }
}

function accepted(input: Record<string, unknown>, defaults: PolicyDefaults, loaded: Loaded): PolicyRule[] {
  const group = (id: string) => loaded.get(`addressGroup/${id}`);
  const rules = meantRules(rulesOf(input), (id) => group(id)?.family as Family | undefined);
  refuseIntricate('rules', { rules, defaults }, (id) => cidrs(group(id)?.entries));
  return rules;
}

const entriesById = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('addressGroup')
    .select(['id', 'entries'])
    .where((eb) => isAmong(eb.ref('id'), p.ids)),
);

/** Asks of the policies that name an address group whether they can be written with these entries of it. */
export async function refuseIntricatePolicies(
  { tx, row }: Pick<Accepting, 'tx' | 'row'>,
  entries: readonly Entry[],
): Promise<void> {
  const policies: NamingPolicy[] = await policiesNaming(tx, { addressGroupId: row.id });
  if (policies.length === 0) return;
  const ids = [...new Set(policies.flatMap(({ rules }) => groupsIn(rules)))];
  const known = new Map((await entriesById(tx, { ids })).map((group) => [group.id, cidrs(group.entries)]));
  known.set(row.id, cidrs(entries));
  for (const policy of policies)
    refuseIntricate('entries', policy, (id) => known.get(id) ?? [], ' in the rules of a firewall policy');
}

/** The groups that its rules name now. */
const groupsNow = ({ row }: Pick<Scene, 'row'>): string[] => (row.addressGroupIds ?? []) as string[];

export const firewallPolicyHooks: Hooks = {
  'firewallPolicy.create': {
    references,
    accept({ input, row, references: loaded }) {
      const rules = accepted(input, row.defaults as PolicyDefaults, loaded);
      Object.assign(row, { rules, addressGroupIds: groupsIn(rules) });
    },
  },
  'firewallPolicy.setRules': {
    references,
    related: (scene): Related[] => groupsNow(scene).map((id) => ({ kind: 'addressGroup', id })),
    // As long as the new rules are on their way, nobody changes the entries of what they or the old ones name: for those the rules of the records are written.
    holds: (scene): Hold[] =>
      [...new Set([...groupsNow(scene), ...groupsIn(rulesOf(scene.input))])].map((id) => ({
        kind: 'addressGroup',
        id,
        mode: 'X',
      })),
    accept(accepting) {
      const { input, row, workflowInput, references: loaded } = accepting;
      const defaults = (input.defaults ?? row.defaults) as PolicyDefaults;
      workflowInput.rules = accepted(input, defaults, loaded);
      tell(accepting, 'firewallPolicy.setRules', { defaults });
    },
  },
};
