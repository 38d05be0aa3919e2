import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, choice, field, kind, object, text } from '../kind.ts';

export const role = kind({
  name: 'role',
  plural: 'roles',
  area: 'tenancy',
  scope: 'platform',
  summary: 'A set of permissions',
  fields: {
    permissions: field(
      Type.Array(
        object({
          effect: Type.Unsafe<'allow' | 'deny'>({ type: 'string', enum: ['allow', 'deny'] }),
          pattern: Type.String({
            maxLength: 128,
            pattern: pattern(
              '^[A-Za-z*]+(\\.[A-Za-z*]+)?$',
              'must be a permission such as instance.start, or a pattern such as instance.* or *',
            ),
          }),
        }),
        { maxItems: 512 },
      ),
      'patch!',
    ),
    builtIn: boolean('system', { default: false }),
    boundAt: choice(['platform', 'domain', 'account', 'project', 'resource'], 'system', {
      description: 'Where a built-in role is meant to be bound; null for others',
    }),
    note: text(512, 'patch', { description: 'For people' }),
  },
  unique: [{ fields: ['name'], code: 'NAME_IN_USE' }],
  catalogue: true,
  actions: {
    create: { summary: 'Make a role', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a role', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove a role that nobody is bound to', mode: 'sync', operatorOnly: true },
  },
});
