import { choice, field, instant, kind, ref, text, Uuid } from '../kind.ts';

/**
 * Gives a subject a role on a target. On a single resource this is sharing. Nobody can grant what they do not hold. Who is outside the reach of
 * who grants is invited: the grant is pending, and gives nothing, until its subject accepts it.
 */
export const roleBinding = kind({
  name: 'roleBinding',
  plural: 'role-bindings',
  area: 'tenancy',
  scope: 'platform',
  grants: true,
  summary: 'A role, given to a subject on a target',
  fields: {
    subjectKind: choice(['user', 'account', 'project', 'everyone'], 'create!', { operatorOnly: ['everyone'] }),
    subjectId: field(Uuid, 'create'),
    roleId: ref('role', 'create!', { use: 'get' }),
    targetKind: text(64, 'create!', { description: 'platform, domain, account, project, or any kind' }),
    targetId: field(Uuid, 'create', { description: 'Null for the platform' }),
    expiresAt: instant('patch', {
      future: true,
      description: 'Never later than the end of the right, and of the key, that it is granted with; that, unless said',
    }),
  },
  states: ['pending', 'active', 'declined'],
  actions: {
    create: { summary: 'Grant a role; who is outside of your reach is invited', mode: 'sync', to: 'active' },
    accept: { summary: 'Accept an invitation', happened: 'accepted', mode: 'sync', from: ['pending'], to: 'active' },
    decline: {
      summary: 'Refuse an invitation, or give back what was granted to you',
      happened: 'declined',
      mode: 'sync',
      from: ['pending', 'active'],
      to: 'declined',
    },
    update: { summary: 'Change when a grant ends', mode: 'sync' },
    delete: { summary: 'Withdraw a grant', mode: 'sync' },
  },
});
