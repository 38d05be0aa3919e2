import { callbackSecretField, newCallbackSecret } from '../../database/callbacks.ts';
import type { Counter } from '../../database/quota.ts';
import { writeSecret } from '../../database/secrets.ts';
import { from, now, statement, statementOfKind, tableOf, type Values } from '../../database/statement.ts';
import { newToken } from '../../database/token.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { instantAt } from '../../model/forms.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Caller, gives, heldUntil, keyAllows, may, type Place, placeOf, type Rule, scopesOf } from '../caller.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { loadedOf } from '../holds.ts';
import { covers } from '../network/cidr.ts';
import { countedAt } from '../quota.ts';
import { invalid } from '../violation.ts';

/**
 * Nobody can grant what they do not hold: every allowed pattern must be held at the target. Answers until when all of them are, in
 * milliseconds of the epoch.
 */
function grantableUntil(caller: Caller, rules: readonly Rule[], place: Place): number {
  let until = caller.key.endsAt;
  for (const { effect, pattern } of rules) {
    if (effect !== 'allow') continue;
    const held = heldUntil(caller, pattern, place);
    if (held === 0) throw new Problem('FORBIDDEN', `you can not grant ${pattern} here: you do not hold it`);
    until = Math.min(until, held);
  }
  return until;
}

const endOf = (expiresAt: unknown): number => (expiresAt == null ? Infinity : Date.parse(String(expiresAt)));

/** The end of something derived: as asked, or that of its source when nothing is said. Later than its source is refused. */
function boundedEnd(asked: unknown, until: number): string | null {
  if (asked === undefined && until !== Infinity) return instantAt(new Date(until));
  if (endOf(asked) > until)
    throw new Problem(
      'FORBIDDEN',
      `your own right, or your key, ends at ${instantAt(new Date(until))}: what comes of it can not last longer`,
      {
        violations: [{ field: 'expiresAt', message: `must not be after ${instantAt(new Date(until))}` }],
      },
    );
  return asked == null ? null : String(asked);
}

/** The resource that a binding is at; null for the platform. */
const target = (row: Row): { kind: string; id: string } | null =>
  isKindName(row.targetKind) && typeof row.targetId === 'string' ? { kind: row.targetKind, id: row.targetId } : null;

const isKindName = (value: unknown): value is string => allKinds.some(({ name }) => name === value);

/** The place that a binding's target is; of the platform, no place in particular. */
const rowOf = statementOfKind((kind, p: Values<{ id: string }>) =>
  from.selectFrom(tableOf(kind)).selectAll().where('t.id', '=', p.id),
);

const living = statementOfKind((kind, p: Values<{ id: string }>) =>
  from.selectFrom(tableOf(kind)).select('t.id').where('t.id', '=', p.id).where('t.deletedAt', 'is', null),
);

const grantsOf = statement((p: Values<{ userId: string }>) =>
  from
    .selectFrom('roleBinding as b')
    .innerJoin('role as r', 'r.id', 'b.roleId')
    .select(['b.targetKind', 'b.targetId', 'r.permissions'])
    .where('b.subjectKind', '=', 'user')
    .where('b.subjectId', '=', p.userId)
    .where('b.deletedAt', 'is', null)
    .where('b.targetKind', 'in', ['platform', 'domain', 'account', 'project']),
);

const rulesOf = statement((p: Values<{ roleId: string }>) =>
  from.selectFrom('role').select('permissions').where('id', '=', p.roleId),
);

const boundOf = statement((p: Values<{ roleId: string }>) =>
  from
    .selectFrom('roleBinding')
    .select(['targetKind', 'targetId', 'expiresAt'])
    .distinct()
    .where('roleId', '=', p.roleId)
    .where('deletedAt', 'is', null),
);

const defaultProjectOf = statement((p: Values<{ accountId: string }>) =>
  from
    .selectFrom('project')
    .select('id')
    .where('accountId', '=', p.accountId)
    .where('isDefault', '=', true)
    .where('deletedAt', 'is', null),
);

const endProject = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('project')
    .set((eb) => ({ deletedAt: now, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id),
);

const endKeysOf = statement((p: Values<{ userId: string }>) =>
  from
    .updateTable('apiKey')
    .set({ deletedAt: now, enabled: false })
    .where('userId', '=', p.userId)
    .where('deletedAt', 'is', null),
);

async function placeAt(tx: Accepting['tx'], kindName: string, id: string | null): Promise<Place> {
  if (!isKindName(kindName) || id === null) return {};
  const [row] = await rowOf(kindOf(kindName))(tx, { id });
  return row ? placeOf(kindOf(kindName), row) : {};
}

/**
 * Until when the caller itself holds what a key of another user would give it, in milliseconds of the epoch. Of what is shared with a user, and of what all of the account have, nothing new
 * comes to who runs the account.
 */
async function borrowableUntil({ tx, caller }: Accepting, userId: string): Promise<number> {
  const grants = await grantsOf(tx, { userId });
  let until = caller.key.endsAt;
  for (const { targetKind, targetId, permissions } of grants)
    until = Math.min(until, grantableUntil(caller, permissions, await placeAt(tx, targetKind, targetId)));
  return until;
}

/** The administrator that the installation came with, and its role, are the way back in when all keys are lost. */
function keepAdministrator({ id }: Row): void {
  if (id === wellKnown.admin || id === wellKnown.adminBinding)
    throw new Problem('PROTECTED', "the installation's own administrator stays, so that there is always a way back in");
}

async function checkExists(tx: Accepting['tx'], table: string, id: unknown, field: string): Promise<void> {
  const found = await living(kindOf(table))(tx, { id: String(id) });
  if (found.length === 0)
    throw new Problem('NOT_FOUND', `${field}: there is no ${table} ${String(id)}`, {
      violations: [{ field, message: `there is no such ${table}` }],
    });
}

/** Whose account it is that something is granted to. */
const accountOf = {
  user: statement((p: Values<{ id: string }>) => from.selectFrom('user').select('accountId').where('id', '=', p.id)),
  account: statement((p: Values<{ id: string }>) =>
    from.selectFrom('account').select('id as accountId').where('id', '=', p.id),
  ),
  project: statement((p: Values<{ id: string }>) =>
    from.selectFrom('project').select('accountId').where('id', '=', p.id),
  ),
};

const subjectOf = (kind: unknown): keyof typeof accountOf | undefined =>
  kind === 'user' || kind === 'account' || kind === 'project' ? kind : undefined;

async function bind(accepting: Accepting): Promise<void> {
  const { tx, row, input, caller, references } = accepting;
  const subject = subjectOf(input.subjectKind);
  if ((subject === undefined) !== (input.subjectId == null))
    throw invalid('subjectId', 'is null for everyone and needed for everybody else');
  // Whom a tenant shares with may be anybody; whether there is such a one is not the tenant's to know.
  if (subject && scopesOf(caller, `${subject}.get`).platform)
    await checkExists(tx, subject, input.subjectId, 'subjectId');
  if (input.targetKind !== 'platform' && !isKindName(input.targetKind))
    throw invalid('targetKind', 'is platform or the name of a kind');
  if ((input.targetKind === 'platform') !== (input.targetId == null))
    throw invalid('targetId', 'is null for the platform and needed for everything else');
  const at = target(row);
  const there = at ? references.get(`${at.kind}/${at.id}`) : undefined;
  const role = references.get(`role/${String(row.roleId)}`);
  const until = grantableUntil(
    caller,
    (role?.permissions ?? []) as Rule[],
    at && there ? placeOf(kindOf(at.kind), there) : {},
  );
  row.expiresAt = boundedEnd(input.expiresAt, until);
  if (await isBeyond(accepting)) row.state = 'pending';
}

/** Whether the subject is outside of what the caller grants roles in, so that it must be asked. Of one that does not exist nobody is told. */
async function isBeyond({ tx, caller, row }: Accepting): Promise<boolean> {
  const { platform, accounts } = scopesOf(caller, 'roleBinding.create');
  const subject = subjectOf(row.subjectKind);
  if (platform || !subject) return false;
  const [found] = await accountOf[subject](tx, { id: String(row.subjectId) });
  return !found || (found.accountId !== caller.accountId && !accounts.has(found.accountId));
}

/** A grant is its subject's to accept or to refuse: of an account or a project, of those who rule over its grants. */
function isForCaller({ subjectKind, subjectId }: Row, caller: Caller, verb: 'accept' | 'decline'): boolean {
  const permission = `roleBinding.${verb}`;
  if (subjectKind === 'user' && subjectId === caller.userId) return keyAllows(caller, permission);
  const id = String(subjectId);
  return may(caller, permission, {
    accountId: subjectKind === 'account' ? id : null,
    projectId: subjectKind === 'project' ? id : null,
  });
}

/** Who makes a grant last longer grants it for that time: they must hold it so long. */
async function prolong({ tx, row, input, caller }: Accepting): Promise<void> {
  keepAdministrator(row);
  if (input.expiresAt === undefined || endOf(input.expiresAt) <= endOf(row.expiresAt)) return;
  const [role] = await rulesOf(tx, { roleId: String(row.roleId) });
  const at = target(row);
  boundedEnd(
    input.expiresAt,
    grantableUntil(caller, role?.permissions ?? [], await placeAt(tx, at?.kind ?? '', at?.id ?? null)),
  );
}

/** What a role gets is granted wherever it is bound, for as long as it is bound there. */
async function widenRole({ tx, row, input, caller }: Accepting): Promise<void> {
  if (row.builtIn) throw new Problem('PROTECTED', `role ${String(row.name)} is ready-made; make one of your own`);
  const before = row.permissions as Rule[];
  const after = (input.permissions ?? before) as Rule[];
  const added = after.filter(({ effect, pattern }) => effect === 'allow' && !gives(before, pattern));
  if (added.length === 0) return;
  const bindings = await boundOf(tx, { roleId: row.id });
  for (const { targetKind, targetId, expiresAt } of bindings)
    boundedEnd(
      expiresAt?.toISOString() ?? null,
      grantableUntil(caller, added, await placeAt(tx, targetKind, targetId)),
    );
}

const isWithin = (cidrs: string[], outer: string[]): boolean =>
  outer.length === 0 || (cidrs.length > 0 && cidrs.every((cidr) => outer.some((wider) => covers(wider, cidr))));

interface Limits {
  permissions: string[];
  allowedCidrs: string[];
  expiresAt: unknown;
}

/** No key gives, makes or opens another that may more than itself, or from elsewhere, or for longer. */
function refuseWiderKey(caller: Caller, { permissions, allowedCidrs, expiresAt }: Limits): void {
  for (const pattern of permissions)
    if (!keyAllows(caller, pattern))
      throw new Problem('FORBIDDEN', `you can not grant ${pattern}: your own key does not allow it`);
  if (!isWithin(allowedCidrs, caller.key.cidrs))
    throw new Problem(
      'FORBIDDEN',
      `your own key is bound to ${caller.key.cidrs.join(', ')}: another can not be used from elsewhere`,
      {
        violations: [{ field: 'allowedCidrs', message: `must lie in ${caller.key.cidrs.join(', ')}` }],
      },
    );
  boundedEnd(expiresAt ?? null, caller.key.endsAt);
}

async function makeKey(accepting: Accepting): Promise<void> {
  const { row, references, answer, input, caller } = accepting;
  const user = references.get(`user/${String(input.userId)}`);
  const until =
    user && user.id !== caller.userId
      ? Math.min(
          await borrowableUntil(accepting, user.id),
          heldUntil(caller, 'apiKey.create', { accountId: String(user.accountId) }),
        )
      : caller.key.endsAt;
  row.expiresAt = boundedEnd(input.expiresAt, until);
  if (input.allowedCidrs == null) row.allowedCidrs = caller.key.cidrs;
  refuseWiderKey(caller, row as Row & Limits);
  const { accessKey, token, hash } = newToken();
  Object.assign(row, { accessKey, secretHash: hash, accountId: user?.accountId });
  answer.token = token;
  answer.callbackSecret = newCallbackSecret();
  await writeSecret(accepting.tx, { kind: 'apiKey', id: row.id }, callbackSecretField, String(answer.callbackSecret));
}

/** To open a key, or to let it in from more addresses, is to give what it may; to narrow it takes the permission alone. */
async function changeKey(accepting: Accepting): Promise<void> {
  const { row, input, caller } = accepting;
  const before = row as Row & Limits & { enabled: boolean; userId: string };
  const allowedCidrs = input.allowedCidrs === null ? [] : ((input.allowedCidrs ?? before.allowedCidrs) as string[]);
  const opens = (input.enabled === true || input.enabled === null) && !before.enabled;
  if (!opens && isWithin(allowedCidrs, before.allowedCidrs)) return;
  refuseWiderKey(caller, { ...before, allowedCidrs });
  if (before.userId !== caller.userId)
    boundedEnd(before.expiresAt ?? null, await borrowableUntil(accepting, before.userId));
}

function addDefaultProject({ row, rows }: Accepting): void {
  rows.project = [{ id: crypto.randomUUID(), name: 'default', accountId: row.id, isDefault: true, state: 'active' }];
}

export const tenancyHooks: Hooks = {
  'domain.create': {
    permittedAt: (row: Row) => ({ domainId: String(row.parentId) }),
    accept({ row, references }) {
      row.path = `${String(references.get(`domain/${String(row.parentId)}`)?.path)}/${row.id}`;
    },
  },
  'account.create': { permittedAt: (row: Row) => ({ domainId: String(row.domainId) }), accept: addDefaultProject },
  'account.delete': {
    // Its default project goes along: nothing is made in that meanwhile.
    related: ({ row }) => [{ kind: 'project', by: 'accountId', id: row.id }],
    holds: ({ row, loaded }) =>
      loadedOf(loaded, 'project')
        .filter(({ accountId, isDefault }) => accountId === row.id && isDefault === true)
        .map(({ id }) => ({ kind: 'project', id, mode: 'D' })),
    async accept({ tx, row }) {
      const [project] = await defaultProjectOf(tx, { accountId: row.id });
      if (!project) return;
      await endProject(tx, { id: project.id });
    },
  },
  'project.create': { permittedAt: (row: Row) => ({ accountId: String(row.accountId) }) },
  'project.delete': {
    refuse(row) {
      if (row.isDefault) throw new Problem('INVALID_STATE', 'the default project goes with its account');
    },
  },
  'user.create': { permittedAt: (row: Row) => ({ accountId: String(row.accountId) }) },
  'user.disable': { accept: ({ row }) => keepAdministrator(row) },
  'user.delete': {
    refuse: keepAdministrator,
    async accept({ tx, row }) {
      await endKeysOf(tx, { userId: row.id });
    },
  },
  'apiKey.create': {
    permittedAt: (row: Row, loaded) => ({ accountId: String(loaded.get(`user/${String(row.userId)}`)?.accountId) }),
    isOwn: (row, caller) => row.userId === caller.userId,
    accept: makeKey,
  },
  'apiKey.update': { isOwn: (row, caller) => row.userId === caller.userId, accept: changeKey },
  'apiKey.delete': { isOwn: (row, caller) => row.userId === caller.userId },
  'role.update': { accept: widenRole },
  'role.delete': {
    refuse(row) {
      if (row.builtIn) throw new Problem('PROTECTED', `role ${String(row.name)} is ready-made and can not be removed`);
    },
  },
  'roleBinding.create': {
    livesIn: target,
    references: ({ targetKind, targetId }) =>
      isKindName(targetKind) && typeof targetId === 'string'
        ? [{ kind: targetKind, id: targetId, field: 'targetId', use: 'get' }]
        : [],
    accept: bind,
  },
  'roleBinding.update': { livesIn: target, accept: prolong },
  'roleBinding.accept': { livesIn: target, mine: (row, caller) => isForCaller(row, caller, 'accept') },
  'roleBinding.decline': {
    livesIn: target,
    mine: (row, caller) => isForCaller(row, caller, 'decline'),
    accept: ({ row }) => keepAdministrator(row),
  },
  'roleBinding.delete': { livesIn: target, refuse: keepAdministrator },
  'quota.create': {
    async accept({ tx, input }) {
      if (!countedAt(input.counter as Counter, String(input.scopeKind)))
        throw invalid('scopeKind', `can not be ${String(input.scopeKind)}: ${String(input.counter)} are an account's`);
      await checkExists(tx, String(input.scopeKind), input.scopeId, 'scopeId');
    },
  },
};
