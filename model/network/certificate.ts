import { Type } from 'typebox';
import { Fingerprint, field, instant, json, kind, text } from '../kind.ts';

/** What load balancers show to those who come over TLS, and the key that proves it. */
export const certificate = kind({
  name: 'certificate',
  plural: 'certificates',
  area: 'network',
  scope: 'project',
  summary: 'A TLS certificate with its key',
  fields: {
    certificate: text(32_768, 'patch!', {
      description: 'One X.509 certificate in PEM. Replaced together with privateKey, by one that is not expired',
    }),
    chain: text(131_072, 'patch', {
      description:
        'The certificates of the authorities above it in PEM, each the issuer of the one before. The root may be left out',
    }),
    privateKey: text(16_384, 'patch!', {
      secret: true,
      description:
        'The key of the certificate in PEM, RSA of 2048 to 8192 bits or ECDSA, not encrypted. It is never told',
    }),
    domains: json(Type.Array(Type.String({ maxLength: 253 })), 'system', {
      default: [],
      description: 'The names and addresses that it is for',
    }),
    fingerprint: field(Fingerprint, 'system', { description: 'SHA-256 of the certificate' }),
    notBefore: instant('system'),
    notAfter: instant('system'),
  },
  orderable: ['notAfter'],
  actions: {
    create: { summary: 'Add a certificate with its key', mode: 'sync' },
    update: { summary: 'Change name and labels, or replace certificate and key', mode: 'sync' },
    delete: { summary: 'Remove a certificate and its key', mode: 'sync' },
  },
});
