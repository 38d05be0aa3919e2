/** What the user of an API key may do right now. */
import type { Queryable } from '../database/database.ts';
import { type KeyRow, keyById, rightsOfUser } from '../database/rights.ts';
import { wellKnown } from '../database/wellKnown.ts';
import { type Caller, type Grant, systemCaller } from './caller.ts';

/** The caller that a key stands for, with all rights of its user. Whether the key may still be used is the reader's to ask. */
export const callerOf = async (on: Queryable, key: KeyRow): Promise<Caller> => ({
  userId: key.userId,
  apiKeyId: key.id,
  accountId: key.accountId,
  accountState: key.accountState,
  key: { patterns: key.permissions, cidrs: key.allowedCidrs, endsAt: key.expiresAt?.getTime() ?? Infinity },
  ...(await rightsOf(on, key.userId, key.accountId)),
  scopes: new Map(),
});

/** Who a key would be let in as right now; null when it would not be. */
export async function holderOf(on: Queryable, apiKeyId: string): Promise<Caller | null> {
  if (apiKeyId === wellKnown.platform) return systemCaller();
  const [key] = await keyById(on, { id: apiKeyId });
  if (!key?.live || key.userState !== 'active' || key.accountState === 'disabled') return null;
  return callerOf(on, key);
}

async function rightsOf(
  on: Queryable,
  userId: string,
  accountId: string,
): Promise<Pick<Caller, 'grants' | 'reach' | 'homeProjects'>> {
  const [row] = await rightsOfUser(on, { userId, accountId });
  if (!row) throw new Error('the statement of rights answers one row');
  const roles = new Map(row.roles.map(({ id, rules }) => [id, rules]));
  return {
    grants: row.grants.map(
      ({ kind, id, role, endsAt }): Grant => ({
        targetKind: kind,
        targetId: id,
        rules: roles.get(role) ?? [],
        endsAt: endsAt ?? Infinity,
      }),
    ),
    reach: new Map(row.reach.map(({ kind, id, ...below }) => [`${kind}/${id}`, below])),
    homeProjects: row.homeProjects,
  };
}
