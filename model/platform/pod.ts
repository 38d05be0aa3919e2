import { boolean, kind, ref, text } from '../kind.ts';

export const pod = kind({
  name: 'pod',
  plural: 'pods',
  area: 'platform',
  scope: 'platform',
  summary: 'A rack: hosts on one management network',
  fields: {
    zoneId: ref('zone', 'create!', { onDelete: 'cascade' }),
    rack: text(128, 'patch', { description: 'For people: where it stands' }),
    enabled: boolean('patch', { default: true, description: 'false: nothing new is placed on its hosts' }),
  },
  actions: {
    create: { summary: 'Make a pod', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a pod', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove an empty pod', mode: 'sync', operatorOnly: true },
  },
});
