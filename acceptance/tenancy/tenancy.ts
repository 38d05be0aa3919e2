import { callbackSecretField, newCallbackSecret } from '../../database/callbacks.ts';
import { run } from '../../database/database.ts';
import { newToken, wellKnown } from '../../database/installation.ts';
import { writeSecret } from '../../database/secrets.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Caller, keyAllows, may, type Place, placeOf, scopesOf } from '../caller.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { refuseDependents } from '../deletePlan.ts';
import { type Counter, countedAt } from '../quota.ts';
import { invalid } from '../violation.ts';

interface Rule {
  effect: string;
  pattern: string;
}

/** Nobody can grant what they do not hold: every allowed pattern must be held at the target. */
function refuseEscalation(caller: Caller, rules: Rule[], place: Place): void {
  for (const { effect, pattern } of rules)
    if (effect === 'allow' && !may(caller, pattern, place))
      throw new Problem('FORBIDDEN', `you can not grant ${pattern} here: you do not hold it`);
}

/** The resource that a binding is at; null for the platform. */
const target = (row: Row): { kind: string; id: string } | null =>
  isKindName(row.targetKind) && typeof row.targetId === 'string' ? { kind: row.targetKind, id: row.targetId } : null;

const isKindName = (value: unknown): value is string => allKinds.some(({ name }) => name === value);

/**
 * What a key of another user would give its maker. Of what is shared with a user, and of what all of the account have, nothing new
 * comes to who runs the account.
 */
async function refuseBorrowing({ tx, caller }: Accepting, userId: string): Promise<void> {
  const grants = await run<{ targetId: string | null; permissions: Rule[] }>(
    tx,
    `SELECT b."targetId", r.permissions FROM "roleBinding" b JOIN "role" r ON r.id = b."roleId"
     WHERE b."subjectKind" = 'user' AND b."subjectId" = $1 AND b."deletedAt" IS NULL AND b."targetKind" IN ('platform', 'domain', 'account', 'project')`,
    [userId],
  );
  for (const { targetId: at, permissions } of grants)
    refuseEscalation(caller, permissions, { projectId: at, accountId: at, domainId: at });
}

/** The administrator that the installation came with, and its role, are the way back in when all keys are lost. */
function keepAdministrator({ id }: Row): void {
  if (id === wellKnown.admin || id === wellKnown.adminBinding)
    throw new Problem('PROTECTED', "the installation's own administrator stays, so that there is always a way back in");
}

async function checkExists(tx: Accepting['tx'], table: string, id: unknown, field: string): Promise<void> {
  const found = await run(tx, `SELECT 1 FROM "${table}" WHERE id = $1 AND "deletedAt" IS NULL`, [id]);
  if (found.length === 0)
    throw new Problem('NOT_FOUND', `${field}: there is no ${table} ${String(id)}`, {
      violations: [{ field, message: `there is no such ${table}` }],
    });
}

const tables: Record<string, string> = { user: 'user', account: 'account', project: 'project', domain: 'domain' };

async function bind(accepting: Accepting): Promise<void> {
  const { tx, row, input, caller, references } = accepting;
  const subject = tables[String(input.subjectKind)];
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
  refuseEscalation(caller, (role?.permissions ?? []) as Rule[], at && there ? placeOf(kindOf(at.kind), there) : {});
}

function addDefaultProject({ row, rows }: Accepting): void {
  rows.project = [{ id: crypto.randomUUID(), name: 'default', accountId: row.id, isDefault: true, state: 'active' }];
}

export const tenancyHooks: Hooks = {
  'domain.create': {
    place: (row: Row) => ({ domainId: String(row.parentId) }),
    accept({ row, references }) {
      row.path = `${String(references.get(`domain/${String(row.parentId)}`)?.path)}/${row.id}`;
    },
  },
  'account.create': { place: (row: Row) => ({ domainId: String(row.domainId) }), accept: addDefaultProject },
  'account.delete': {
    async accept({ tx, caller, row }) {
      const [project] = await run<{ id: string }>(
        tx,
        `SELECT id FROM "project" WHERE "accountId" = $1 AND "isDefault" AND "deletedAt" IS NULL`,
        [row.id],
      );
      if (!project) return;
      await refuseDependents(tx, caller, kindOf('project'), project.id);
      await run(
        tx,
        `UPDATE "project" SET "deletedAt" = now(), "updatedAt" = now(), revision = revision + 1 WHERE id = $1`,
        [project.id],
      );
    },
  },
  'project.create': { place: (row: Row) => ({ accountId: String(row.accountId) }) },
  'project.delete': {
    accept({ row }) {
      if (row.isDefault) throw new Problem('INVALID_STATE', 'the default project goes with its account');
    },
  },
  'user.create': {
    place: (row: Row) => ({ accountId: String(row.accountId) }),
    async accept({ tx, row }) {
      const taken = await run(
        tx,
        `SELECT 1 FROM "user" WHERE "accountId" = $1 AND "userName" = $2 AND "deletedAt" IS NULL`,
        [row.accountId, row.userName],
      );
      if (taken.length > 0)
        throw new Problem('NAME_IN_USE', `the account has a user ${String(row.userName)} already`, {
          violations: [{ field: 'userName', message: 'is in use' }],
        });
    },
  },
  'user.disable': { accept: ({ row }) => keepAdministrator(row) },
  'user.delete': {
    async accept({ tx, row }) {
      keepAdministrator(row);
      await run(
        tx,
        `UPDATE "apiKey" SET "deletedAt" = now(), enabled = false WHERE "userId" = $1 AND "deletedAt" IS NULL`,
        [row.id],
      );
      await run(
        tx,
        `UPDATE "roleBinding" SET "deletedAt" = now() WHERE "subjectKind" = 'user' AND "subjectId" = $1 AND "deletedAt" IS NULL`,
        [row.id],
      );
    },
  },
  'apiKey.create': {
    place: (row: Row, loaded) => ({ accountId: String(loaded.get(`user/${String(row.userId)}`)?.accountId) }),
    own: (row, caller) => row.userId === caller.userId,
    async accept(accepting) {
      const { row, references, answer, input, caller } = accepting;
      const user = references.get(`user/${String(input.userId)}`);
      for (const pattern of row.permissions as string[])
        if (!keyAllows(caller, pattern))
          throw new Problem('FORBIDDEN', `you can not grant ${pattern}: your own key does not allow it`);
      if (user && user.id !== caller.userId) await refuseBorrowing(accepting, user.id);
      const { accessKey, token, hash } = newToken();
      Object.assign(row, { accessKey, secretHash: hash, accountId: user?.accountId });
      answer.token = token;
      answer.callbackSecret = newCallbackSecret();
      await writeSecret(accepting.tx, row.id, callbackSecretField, String(answer.callbackSecret));
    },
  },
  'apiKey.update': { own: (row, caller) => row.userId === caller.userId },
  'apiKey.delete': { own: (row, caller) => row.userId === caller.userId },
  'role.update': {
    accept({ row }) {
      if (row.builtIn) throw new Problem('PROTECTED', `role ${String(row.name)} is ready-made; make one of your own`);
    },
  },
  'role.delete': {
    accept({ row }) {
      if (row.builtIn) throw new Problem('PROTECTED', `role ${String(row.name)} is ready-made and can not be removed`);
    },
  },
  'roleBinding.create': {
    home: target,
    references: ({ targetKind, targetId }) =>
      isKindName(targetKind) && typeof targetId === 'string'
        ? [{ kind: targetKind, id: targetId, field: 'targetId' }]
        : [],
    accept: bind,
  },
  'roleBinding.update': { home: target, accept: ({ row }) => keepAdministrator(row) },
  'roleBinding.delete': { home: target, accept: ({ row }) => keepAdministrator(row) },
  'quota.create': {
    async accept({ tx, input }) {
      if (!countedAt(input.counter as Counter, String(input.scopeKind)))
        throw invalid('scopeKind', `can not be ${String(input.scopeKind)}: ${String(input.counter)} are an account's`);
      await checkExists(tx, tables[String(input.scopeKind)] ?? '', input.scopeId, 'scopeId');
      const taken = await run(
        tx,
        `SELECT 1 FROM "quota" WHERE "scopeId" = $1 AND counter = $2 AND "deletedAt" IS NULL`,
        [input.scopeId, input.counter],
      );
      if (taken.length > 0)
        throw new Problem('NAME_IN_USE', 'this counter has a limit at this scope already; change that one');
    },
  },
};
