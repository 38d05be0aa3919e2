import { createHash } from 'node:crypto';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

const types = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
];

export const keyPairHooks: Hooks = {
  'keyPair.create': {
    accept({ row, input }) {
      const [type, body, ...comment] = String(input.publicKey).trim().split(/\s+/);
      const blob = Buffer.from(body ?? '', 'base64');
      // RFC 4253 6.6: the blob begins with the length and the name of its own type.
      const named = blob.length > 4 ? blob.subarray(4, 4 + blob.readUInt32BE(0)).toString() : '';
      if (!type || !types.includes(type) || named !== type || /[\r\n]/.test(comment.join(' ')))
        throw invalid('publicKey', `is no OpenSSH public key of type ${types.join(', ')}`);
      Object.assign(row, {
        publicKey: [type, body, ...comment].join(' '),
        type,
        fingerprint: `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`,
      });
    },
  },
};
