/** Accounts, people and what they were given, for tests of who may do what. */
import type { Api, ApiProblem, Resource } from '../../lab/api.ts';

export const rootDomain = '00000000-0000-4000-8000-000000000002';
export const nobody = '11111111-1111-4111-8111-111111111111';

export interface Person {
  user: Resource;
  key: Resource & { token: string };
  api: Api;
}

export interface People {
  list(api: Api, plural: string, filter: string): Promise<Resource[]>;
  roleId(name: string): Promise<string>;
  /** Gives a role; what the platform's administrator gives holds at once. */
  bind(
    by: Api,
    role: string,
    subject: [string, string],
    target: [string, string | null],
    more?: object,
  ): Promise<Resource>;
  person(name: string, accountId: string, role: string, target: [string, string | null]): Promise<Person>;
  newAccount(name: string, domainId?: string): Promise<{ account: Resource; project: Resource }>;
  newRole(permissions: string[]): Promise<string>;
}

export async function answer(api: Api, method: string, path: string, body?: unknown): Promise<ApiProblem> {
  const response = await api.raw(method, path, body === undefined ? null : JSON.stringify(body), {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  });
  const text = await response.text();
  return { status: response.status, ...(text.startsWith('{') ? (JSON.parse(text) as object) : {}) } as ApiProblem;
}

/** `404 NOT_FOUND` of a problem, `201` of a success. */
export async function code(api: Api, method: string, path: string, body?: unknown): Promise<string> {
  const { status, code: name } = await answer(api, method, path, body);
  return name ? `${status} ${name}` : String(status);
}

export function peopleOf(admin: Api): People {
  const roles = new Map<string, string>();
  const people: People = {
    async list(api, plural, filter) {
      const path = `/v1/${plural}?pageSize=500&filter=${encodeURIComponent(filter)}`;
      return (await api.call<{ items: Resource[] }>('GET', path)).items;
    },
    async roleId(name) {
      if (!roles.has(name))
        for (const role of await people.list(admin, 'roles', `name = "${name}"`)) roles.set(role.name, role.id);
      return roles.get(name) ?? name;
    },
    bind: async (by, role, [subjectKind, subjectId], [targetKind, targetId], more = {}) =>
      by.call('POST', '/v1/role-bindings', {
        name: role,
        subjectKind,
        subjectId,
        roleId: await people.roleId(role),
        targetKind,
        targetId,
        ...more,
      }),
    async person(name, accountId, role, target) {
      const userName = `${name}-${crypto.randomUUID()}`;
      const user = await admin.call('POST', '/v1/users', { name, userName, accountId });
      await people.bind(admin, role, ['user', user.id], target);
      const key = await admin.call<Resource & { token: string }>('POST', '/v1/api-keys', { name, userId: user.id });
      return { user, key, api: admin.as(key.token) };
    },
    async newAccount(name, domainId = rootDomain) {
      const account = await admin.call('POST', '/v1/accounts', { name: `${name}-${crypto.randomUUID()}`, domainId });
      const [project] = await people.list(admin, 'projects', `accountId = "${account.id}"`);
      if (!project) throw new Error('an account has a default project');
      return { account, project };
    },
    async newRole(permissions) {
      const { id } = await admin.call('POST', '/v1/roles', {
        name: `role-${crypto.randomUUID()}`,
        permissions: permissions.map((pattern) => ({ effect: 'allow', pattern })),
      });
      return id;
    },
  };
  return people;
}
