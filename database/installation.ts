/** What every installation has from its first start: root of the tree of tenants, ready-made roles, settings, the catalogue of actions. */
import { declaredSettings } from '../model/platform/declaredSettings.ts';
import { maintenance, maintenanceAction, maintenanceNames } from '../model/platform/maintenance.ts';
import { builtInRoles } from '../model/tenancy/builtInRoles.ts';
import { type Database, insertAll, type Transaction, transaction } from './database.ts';
import { ensureGuards } from './guards.ts';
import { operationTypeRows } from './operationTypes.ts';
import { from, isAmong, now, statement, type Values, written } from './statement.ts';
import { newToken } from './token.ts';
import { idOf, platformOwner, wellKnown } from './wellKnown.ts';

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

/** Records of one table that every installation has; `refreshed` are the columns that a newer version writes anew. */
interface Fixed {
  table: string;
  rows: Record<string, unknown>[];
  refreshed: string[];
}

/** The root of the tree of tenants, and who may do everything there. */
const root: Fixed[] = [
  {
    table: 'domain',
    rows: [{ id: wellKnown.rootDomain, name: 'ROOT', parentId: wellKnown.rootDomain, path: wellKnown.rootDomain }],
    refreshed: [],
  },
  {
    table: 'account',
    rows: [{ id: wellKnown.rootAccount, name: 'platform', domainId: wellKnown.rootDomain, state: 'active' }],
    refreshed: [],
  },
  {
    table: 'project',
    rows: [
      {
        id: wellKnown.rootProject,
        name: 'platform',
        accountId: wellKnown.rootAccount,
        isDefault: true,
        state: 'active',
      },
    ],
    refreshed: [],
  },
  {
    table: 'user',
    rows: [
      {
        id: wellKnown.admin,
        name: 'admin',
        userName: 'admin',
        accountId: wellKnown.rootAccount,
        type: 'service',
        state: 'active',
      },
    ],
    refreshed: [],
  },
];

const roles = (): Fixed[] => [
  {
    table: 'role',
    rows: Object.entries(builtInRoles).map(([name, role]) => ({
      id: idOf(`role/${name}`),
      name,
      description: role.summary,
      permissions: role.permissions,
      boundAt: role.boundAt,
      builtIn: true,
    })),
    refreshed: ['permissions', 'description', 'boundAt'],
  },
  {
    table: 'roleBinding',
    rows: [
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
    refreshed: [],
  },
];

const settings = (): Fixed => ({
  table: 'setting',
  rows: Object.entries(declaredSettings).map(([name, setting]) => ({
    id: idOf(`setting/${name}`),
    name,
    description: setting.summary,
    value: setting.defaultValue,
    defaultValue: setting.defaultValue,
    valueSchema: setting.schema,
    unit: setting.unit ?? null,
    settingArea: setting.area,
  })),
  refreshed: ['description', 'defaultValue', 'valueSchema', 'unit', 'settingArea'],
});

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

const schedules = (): Fixed => ({
  table: 'schedule',
  rows: maintenanceRows(),
  refreshed: ['description', 'everySeconds', 'overlap', 'windowSeconds'],
});

/** The catalogue of actions. */
const operationTypes = (): Fixed => ({
  table: 'operationType',
  rows: operationTypeRows(),
  refreshed: ['description', 'inputSchema', 'steps', 'pointOfNoReturn', 'lockMode', 'cancellable', 'permission'],
});

async function ensureRecords(tx: Transaction, { table, rows, refreshed }: Fixed): Promise<void> {
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
}

/** Brings the fixed records up to date; safe to run in several processes at once. */
export async function ensureInstallation(database: Database): Promise<void> {
  await transaction(database, async (tx) => {
    await oneAtATime(tx);
    await ensureGuards(tx);
    for (const fixed of [...root, ...roles(), settings(), schedules(), operationTypes()])
      await ensureRecords(tx, fixed);
    const declared = maintenanceRows().map(({ id }) => String(id));
    await endSchedules(tx, { managedBy: { ...platformOwner }, declared });
  });
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
