/** What every installation has from its first start: root of the tree of tenants, ready-made roles, settings, the catalogue of actions. */
import { createHash, randomBytes } from 'node:crypto';
import type { Action, StepDescription } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { declaredSettings } from '../model/platform/declaredSettings.ts';
import { maintenance, maintenanceAction, maintenanceNames } from '../model/platform/maintenance.ts';
import { createSchema, type JsonSchema } from '../model/schemas.ts';
import { builtInRoles } from '../model/tenancy/builtInRoles.ts';
import type { Database } from './database.ts';
import { insertAll, transaction } from './database.ts';
import { ensureGuards } from './guards.ts';
import { from, isAmong, now, statement, type Values, written } from './statement.ts';

const fixed = (n: number): string => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

/** Ids that are the same in every installation. */
export const wellKnown = {
  platform: fixed(1),
  rootDomain: fixed(2),
  rootAccount: fixed(3),
  rootProject: fixed(4),
  admin: fixed(5),
  adminBinding: fixed(6),
};

/** Whose the platform's own secrets are. No resource has this kind, so no resource's end can take them along. */
export const platformOwner = { kind: 'platform', id: wellKnown.platform };

/** The same name always gives the same id (RFC 9562 version 8, from SHA-256). */
export function idOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** A new credential: `token` is shown once, `hash` is stored. */
export function newToken(): { accessKey: string; token: string; hash: string } {
  const accessKey = randomBytes(10).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  return { accessKey, token: `belay_${accessKey}_${secret}`, hash: hashOf(secret) };
}

const oneAtATime = written<never>(`SELECT pg_advisory_xact_lock(hashtextextended('installation', 0))`);

/** Of the platform's own schedules those that a version has left out. */
const endSchedules = statement((p: Values<{ managedBy: Record<string, unknown>; declared: string[] }>) =>
  from
    .updateTable('schedule')
    .set((eb) => ({ deletedAt: now, revision: eb('revision', '+', 1) }))
    .where('managedBy', '=', p.managedBy)
    .where('deletedAt', 'is', null)
    .where((eb) => eb.not(isAmong(eb.ref('id'), p.declared))),
);

/** What `operation-types` answers of an action is what its dry runs answer. */
export const stepsOfType = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operationType').select('steps').where('id', '=', p.id),
);

/** How the steps of an action are told. Only `activities/` knows, which nothing here may import. */
export type StepsOf = (action: Action) => StepDescription[];

/** Brings the fixed records up to date; safe to run in several processes at once. */
export async function ensureInstallation(database: Database, stepsOf: StepsOf): Promise<void> {
  await transaction(database, async (tx) => {
    await oneAtATime(tx);
    await ensureGuards(tx);
    const upsert = async (table: string, rows: Record<string, unknown>[], refreshed: string[]): Promise<void> => {
      if (rows.length === 0) return;
      const columns = Object.keys(rows[0] ?? {})
        .map((column) => `"${column}"`)
        .join(', ');
      const set = refreshed.map((column) => `"${column}" = excluded."${column}"`).join(', ');
      await tx.query(
        `INSERT INTO "${table}" (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::"${table}", $1::json)
         ON CONFLICT (id) DO ${set ? `UPDATE SET ${set}` : 'NOTHING'}`,
        [JSON.stringify(rows)],
      );
    };
    await upsert(
      'domain',
      [{ id: wellKnown.rootDomain, name: 'ROOT', parentId: wellKnown.rootDomain, path: wellKnown.rootDomain }],
      [],
    );
    await upsert(
      'account',
      [
        {
          id: wellKnown.rootAccount,
          name: 'platform',
          domainId: wellKnown.rootDomain,
          state: 'active',
        },
      ],
      [],
    );
    await upsert(
      'project',
      [
        {
          id: wellKnown.rootProject,
          name: 'platform',
          accountId: wellKnown.rootAccount,
          isDefault: true,
          state: 'active',
        },
      ],
      [],
    );
    await upsert(
      'user',
      [
        {
          id: wellKnown.admin,
          name: 'admin',
          userName: 'admin',
          accountId: wellKnown.rootAccount,
          type: 'service',
          state: 'active',
        },
      ],
      [],
    );
    await upsert(
      'role',
      Object.entries(builtInRoles).map(([name, role]) => ({
        id: idOf(`role/${name}`),
        name,
        description: role.summary,
        permissions: role.permissions,
        boundAt: role.boundAt,
        builtIn: true,
      })),
      ['permissions', 'description', 'boundAt'],
    );
    await upsert(
      'roleBinding',
      [
        {
          id: wellKnown.adminBinding,
          name: 'admin',
          subjectKind: 'user',
          subjectId: wellKnown.admin,
          roleId: idOf('role/rootAdmin'),
          targetKind: 'platform',
          targetId: null,
          state: 'active',
        },
      ],
      [],
    );
    await upsert(
      'setting',
      Object.entries(declaredSettings).map(([name, setting]) => ({
        id: idOf(`setting/${name}`),
        name,
        description: setting.summary,
        value: setting.defaultValue,
        defaultValue: setting.defaultValue,
        valueSchema: setting.schema,
        unit: setting.unit ?? null,
        settingArea: setting.area,
      })),
      ['description', 'defaultValue', 'valueSchema', 'unit', 'settingArea'],
    );
    await upsert('schedule', maintenanceRows(), ['description', 'everySeconds', 'overlap', 'windowSeconds']);
    const declared = maintenanceRows().map(({ id }) => String(id));
    await endSchedules(tx, { managedBy: { ...platformOwner }, declared });
    await upsert('operationType', operationTypeRows(stepsOf), [
      'description',
      'inputSchema',
      'steps',
      'pointOfNoReturn',
      'lockMode',
      'cancellable',
      'permission',
    ]);
  });
}

/** What the platform does again and again, as it stands among the schedules: to be looked at, and paused. */
function maintenanceRows(): Record<string, unknown>[] {
  return maintenanceNames.map((name) => {
    const { summary, everySeconds, overlap, catchupSeconds } = maintenance[name];
    return {
      id: idOf(`schedule/${name}`),
      name,
      description: summary,
      state: 'active',
      managedBy: platformOwner,
      action: maintenanceAction(name),
      targets: {},
      everySeconds,
      overlap,
      windowSeconds: catchupSeconds,
    };
  });
}

function operationTypeRows(stepsOf: StepsOf): Record<string, unknown>[] {
  return allKinds.flatMap((kind) =>
    Object.entries(kind.actions)
      .filter(([, action]) => action.mode === 'operation')
      .map(([verb, action]) => ({
        id: idOf(`operationType/${kind.name}.${verb}`),
        name: `${kind.name}.${verb}`,
        description: action.summary,
        targetKind: kind.name,
        inputSchema:
          verb === 'create'
            ? createSchema(kind)
            : ((action.input as unknown as JsonSchema | undefined) ?? { type: 'object', properties: {} }),
        steps: stepsOf(action),
        pointOfNoReturn: action.pointOfNoReturn ?? null,
        lockMode: action.holdsTarget === false ? null : (action.lock ?? 'X'),
        cancellable: action.cancellable === true,
        permission: `${kind.name}.${verb}`,
      })),
  );
}

const worksFor = statement((p: Values<{ userId: string }>) =>
  from
    .selectFrom('apiKey')
    .select('id')
    .where('userId', '=', p.userId)
    .where('enabled', '=', true)
    .where('deletedAt', 'is', null)
    .where((eb) => eb.or([eb('expiresAt', 'is', null), eb('expiresAt', '>', now)]))
    .limit(1),
);

/** A first credential of the administrator, when none works. Answers its token, or null when there is one already. */
export async function ensureFirstKey(database: Database): Promise<string | null> {
  return transaction(database, async (tx) => {
    await oneAtATime(tx);
    const existing = await worksFor(tx, { userId: wellKnown.admin });
    if (existing.length > 0) return null;
    const { accessKey, token, hash } = newToken();
    await insertAll(tx, {
      apiKey: [
        {
          id: crypto.randomUUID(),
          name: 'first',
          userId: wellKnown.admin,
          accountId: wellKnown.rootAccount,
          accessKey,
          secretHash: hash,
        },
      ],
    });
    return token;
  });
}
