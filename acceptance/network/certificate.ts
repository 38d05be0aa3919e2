import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { instantAt } from '../../model/forms.ts';
import type { Accepting, Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

const oneCertificate = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;
/** More than any public authority needs. */
const chainMax = 8;
const rsaBits = { least: 2048, most: 8192 };

/** The certificates of a PEM text in its order. Between them may be comments, as `openssl` writes them. Throws INVALID_ARGUMENT. */
function certificatesOf(pem: string, field: string): X509Certificate[] {
  if (/-----BEGIN [^-]*PRIVATE KEY-----/.test(pem))
    throw invalid(field, 'holds a private key; that belongs into privateKey');
  const blocks = pem.match(oneCertificate) ?? [];
  if (blocks.length === 0 || blocks.length !== (pem.match(/-----BEGIN /g) ?? []).length)
    throw invalid(field, 'holds something else than certificates in PEM, or none');
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw invalid(field, `is no X.509 certificate in PEM${blocks.length > 1 ? `: the one at ${index + 1}` : ''}`);
    }
  });
}

/** A key that is not encrypted, and strong enough. Throws INVALID_ARGUMENT, without a word of the key. */
function keyOf(pem: string): KeyObject {
  if (/ENCRYPTED/.test(pem)) throw invalid('privateKey', 'is encrypted; it is needed without a passphrase');
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw invalid('privateKey', 'is no private key in PEM');
  }
  const { modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa') {
    if (modulusLength < rsaBits.least || modulusLength > rsaBits.most)
      throw invalid('privateKey', `has ${modulusLength} bits; RSA needs ${rsaBits.least} to ${rsaBits.most}`);
  } else if (key.asymmetricKeyType !== 'ec') throw invalid('privateKey', 'must be of RSA or ECDSA');
  return key;
}

/** What a certificate is for: its alternative names, or else its common name. */
function domainsOf({ subjectAltName, subject }: X509Certificate): string[] {
  const names = (subjectAltName ?? '')
    .split(', ')
    .flatMap((entry) => /^(?:DNS|IP Address):(.+)$/.exec(entry)?.[1] ?? []);
  const common = /^CN=(.+)$/m.exec(subject ?? '')?.[1];
  return [...new Set((names.length > 0 ? names : common ? [common] : []).map((name) => name.toLowerCase()))];
}

export interface Told {
  certificate: string;
  chain: string | null;
  domains: string[];
  fingerprint: string;
  notBefore: string;
  notAfter: string;
}

/** What is told of a certificate whose key and chain belong to it, now. Throws INVALID_ARGUMENT with the field. */
export function checkCertificate(
  given: { certificate: string; chain: string | null; privateKey: string },
  now: Date,
): Told {
  const [leaf, ...more] = certificatesOf(given.certificate, 'certificate');
  if (!leaf || more.length > 0)
    throw invalid('certificate', 'holds more than one certificate; those of the authorities belong into chain');
  const key = keyOf(given.privateKey);
  if (!leaf.checkPrivateKey(key)) throw invalid('privateKey', 'is not the key of the certificate');
  const [notBefore, notAfter] = [new Date(leaf.validFrom), new Date(leaf.validTo)];
  if (notAfter <= now) throw invalid('certificate', `has expired at ${instantAt(notAfter)}`);
  const domains = domainsOf(leaf);
  if (domains.length === 0) throw invalid('certificate', 'names neither a domain nor an address that it is for');
  const above = given.chain === null ? [] : certificatesOf(given.chain, 'chain');
  if (above.length > chainMax) throw invalid('chain', `holds ${above.length} certificates; at most ${chainMax} fit`);
  [leaf, ...above].reduce((below, issuer, index) => {
    if (!below.checkIssued(issuer) || !below.verify(issuer.publicKey))
      throw invalid('chain', `does not fit: its certificate ${index} is not the issuer of the one before`);
    if (new Date(issuer.validTo) <= now) throw invalid('chain', `its certificate ${index} has expired`);
    return issuer;
  });
  const pem = (one: X509Certificate): string => one.toString().trimEnd();
  return {
    certificate: `${pem(leaf)}\n`,
    chain: above.length === 0 ? null : `${above.map(pem).join('\n')}\n`,
    domains,
    fingerprint: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
    notBefore: instantAt(notBefore),
    notAfter: instantAt(notAfter),
  };
}

function accept({ row, input }: Pick<Accepting, 'row' | 'input'>): void {
  const { certificate, privateKey } = input;
  if (typeof certificate !== 'string' || typeof privateKey !== 'string')
    throw invalid(
      typeof certificate === 'string' ? 'privateKey' : 'certificate',
      'is replaced together with the other',
    );
  // One that is replaced has another chain, unless that is said.
  const chain = typeof input.chain === 'string' ? input.chain : null;
  const told = checkCertificate({ certificate, chain, privateKey }, new Date());
  Object.assign(row, told);
  Object.assign(input, { certificate: told.certificate, chain: told.chain });
}

const parts = ['certificate', 'chain', 'privateKey'];

export const certificateHooks: Hooks = {
  'certificate.create': { accept },
  'certificate.update': {
    accept(accepting) {
      if (parts.some((name) => Object.hasOwn(accepting.input, name))) accept(accepting);
    },
  },
};
