import { kind, text } from '../kind.ts';

export const keyPair = kind({
  name: 'keyPair',
  plural: 'key-pairs',
  area: 'compute',
  scope: 'project',
  summary: 'An SSH public key for first boots',
  fields: {
    publicKey: text(16_384, 'create!'),
    fingerprint: text(128, 'system'),
    type: text(64, 'system'),
  },
  actions: {
    create: { summary: 'Add a public key', mode: 'sync' },
    update: { summary: 'Change a key pair', mode: 'sync' },
    delete: { summary: 'Remove a public key; instances keep what they have', mode: 'sync' },
  },
});
