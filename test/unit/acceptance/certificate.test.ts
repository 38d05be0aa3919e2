/** Certificates on their way in: key, chain and time belong together, or the field that does not is named. */
import { generateKeyPairSync } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkCertificate } from '../../../acceptance/network/certificate.ts';
import { Problem } from '../../../runtime/problem.ts';
import { newCertificate, type WithKey } from '../../support/certificates.ts';

let shop: WithKey;
let other: WithKey;
const now = new Date();
const inYears = new Date(now.getTime() + 30 * 365 * 86_400_000);

beforeAll(async () => {
  shop = await newCertificate('Shop.example.org', '*.shop.example.org', '10.0.0.7', 'fd00::7');
  other = await newCertificate('other.example.org');
});

function refused(given: Partial<WithKey> & { chain?: string | null }, at = now): { field: string; message: string } {
  try {
    checkCertificate({ ...shop, ...given }, at);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    expect(error.code).toBe('INVALID_ARGUMENT');
    return (error.details.violations ?? [])[0] as { field: string; message: string };
  }
  throw new Error('it was taken');
}

test('what is told of one is what it says', () => {
  const told = checkCertificate(shop, now);
  expect(told.domains).toEqual([
    'shop.example.org',
    '*.shop.example.org',
    '10.0.0.7',
    expect.stringMatching(/^fd00:.*7$/),
  ]);
  expect(told.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  expect(Date.parse(told.notBefore)).toBeLessThan(now.getTime());
  expect(Date.parse(told.notAfter)).toBeGreaterThan(now.getTime());
  expect(told.certificate.trim()).toBe(shop.certificate.trim());
  expect(told.chain?.trim()).toBe(shop.chain.trim());
});

test('comments and empty lines around it are left out, and no chain is none', () => {
  const told = checkCertificate(
    { ...shop, certificate: `subject=CN = shop\n\n${shop.certificate}\n\n`, chain: null },
    now,
  );
  expect(told.certificate.trim()).toBe(shop.certificate.trim());
  expect(told.chain).toBeNull();
});

describe('refuses', () => {
  const rsa = (bits: number): string =>
    generateKeyPairSync('rsa', { modulusLength: bits }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const ed25519 = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const encrypted = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
    .toString();

  test.each<[string, () => Partial<WithKey>, string, string]>([
    ['the key of another', () => ({ privateKey: other.privateKey }), 'privateKey', 'is not the key'],
    ['no key', () => ({ privateKey: 'secret' }), 'privateKey', 'is no private key in PEM'],
    ['a key with a passphrase', () => ({ privateKey: encrypted }), 'privateKey', 'is encrypted'],
    ['a weak key', () => ({ privateKey: rsa(1024) }), 'privateKey', 'has 1024 bits'],
    ['a key of another sort', () => ({ privateKey: ed25519 }), 'privateKey', 'must be of RSA or ECDSA'],
    ['no certificate', () => ({ certificate: 'none' }), 'certificate', 'or none'],
    [
      'the key where the certificate belongs',
      () => ({ certificate: shop.privateKey }),
      'certificate',
      'holds a private key',
    ],
    ['two certificates in one', () => ({ certificate: shop.certificate + shop.chain }), 'certificate', 'more than one'],
    [
      'what only looks like one',
      () => ({ certificate: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' }),
      'certificate',
      'is no X.509 certificate',
    ],
    [
      'a request beside it',
      () => ({ certificate: `${shop.certificate}-----BEGIN CERTIFICATE REQUEST-----` }),
      'certificate',
      'something else',
    ],
    ['the chain of another', () => ({ chain: other.chain }), 'chain', 'certificate 1 is not the issuer'],
    ['a chain with the key in it', () => ({ chain: shop.privateKey }), 'chain', 'holds a private key'],
    ['a chain that goes on with another', () => ({ chain: shop.chain + other.chain }), 'chain', 'certificate 2 is not'],
    ['a chain without end', () => ({ chain: shop.chain.repeat(9) }), 'chain', 'at most 8'],
  ])('%s', (_, given, field, message) => {
    const violation = refused(given());
    expect(violation.field).toBe(field);
    expect(violation.message).toContain(message);
    expect(violation.message).not.toContain('PRIVATE');
  });

  test('one that has expired', () => {
    expect(refused({}, inYears)).toMatchObject({
      field: 'certificate',
      message: expect.stringContaining('has expired at'),
    });
  });
});
