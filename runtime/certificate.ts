/**
 * Issues X.509 certificates with P-256 keys. Node can read certificates but not issue them. A library does it, because starting `openssl` for each
 * host would take longer than the other steps of adding the host.
 */
import { type webcrypto, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
// `@peculiar/x509` fails to load unless this package is loaded before it.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

export interface Issued {
  certificate: string;
  key: string;
}

const dayMs = 24 * 60 * 60 * 1000;
/** Of an authority: whoever trusts it has to be told of the next one by hand. */
const authorityDays = 3653;
/** Of everything else, which is renewed by itself in the last third of it. */
const certificateDays = 397;
/** The clocks of two machines differ. */
const leewayMs = 60 * 60 * 1000;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

const makeKeys = (): Promise<webcrypto.CryptoKeyPair> => crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);

async function keyText(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

/** The authority's certificate and key are the same for thousands of hosts: read once. */
let latestAuthority: { of: Issued; issuer: x509.X509Certificate; signingKey: Promise<webcrypto.CryptoKey> } | undefined;

function signerOf(authority: Issued): { issuer: x509.X509Certificate; signingKey: Promise<webcrypto.CryptoKey> } {
  const { certificate, key } = authority;
  if (latestAuthority?.of.certificate !== certificate || latestAuthority.of.key !== key)
    latestAuthority = { of: authority, issuer: new x509.X509Certificate(certificate), signingKey: keyFrom(key) };
  return latestAuthority;
}

const keyFrom = (text: string): Promise<webcrypto.CryptoKey> =>
  crypto.subtle.importKey('pkcs8', x509.PemConverter.decodeFirst(text), algorithm, false, ['sign']);

function validity(days: number): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - leewayMs), notAfter: new Date(now + days * dayMs) };
}

/** Whether it is time for the next one: a third of its life is left, or less, unless another part is said. */
export function endsSoon(certificate: string, nowMs = Date.now(), part = 1 / 3): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const endMs = Date.parse(validTo);
  return endMs - nowMs <= (endMs - Date.parse(validFrom)) * part;
}

/** Whether it stands for all of these names: host names and IP addresses. */
export function standsFor(certificate: string, names: string[]): boolean {
  const x509Certificate = new X509Certificate(certificate);
  return names.every((name) => (isIP(name) ? x509Certificate.checkIP(name) : x509Certificate.checkHost(name)));
}

/** An IPv6 address without dotted parts, as a URL's host has it: the package does not take them. */
const shortest = (address: string): string =>
  isIP(address) === 6 ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;

/** Signs itself, and may sign others. */
export async function issueAuthority(commonName: string): Promise<Issued> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [commonName] }],
    keys,
    signingAlgorithm: algorithm,
    ...validity(authorityDays),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await keyText(keys.privateKey) };
}

/** Which end of a connection may show it. Who is a server only can not pass for a client anywhere, nor the other way round. */
export type End = 'server' | 'client' | 'both';

const usages = (end: End): x509.ExtendedKeyUsage[] => [
  ...(end === 'client' ? [] : [x509.ExtendedKeyUsage.serverAuth]),
  ...(end === 'server' ? [] : [x509.ExtendedKeyUsage.clientAuth]),
];

/** Signed by the authority, for no authority itself. `uses` is what it is for. */
async function issue(commonName: string, authority: Issued, days: number, uses: x509.Extension[]): Promise<Issued> {
  const keys = await makeKeys();
  const { issuer, signingKey } = signerOf(authority);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [commonName] }],
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: await signingKey,
    signingAlgorithm: algorithm,
    ...validity(days),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      ...uses,
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await keyText(keys.privateKey) };
}

/** For signatures under what the platform says of itself, for as long as the authority stands behind them. */
export const issueForSigning = (commonName: string, authority: Issued): Promise<Issued> =>
  issue(commonName, authority, authorityDays, [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true)]);

/** Under these names: host names and IP addresses. For both ends unless said. */
export const issueCertificate = (
  commonName: string,
  names: string[],
  authority: Issued,
  { days = certificateDays, end = 'both' }: { days?: number; end?: End } = {},
): Promise<Issued> =>
  issue(commonName, authority, days, [
    // GnuTLS refuses an ECDSA certificate for libvirtd without keyEncipherment.
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
    new x509.ExtendedKeyUsageExtension(usages(end)),
    new x509.SubjectAlternativeNameExtension(
      names.map((name) => (isIP(name) ? { type: 'ip', value: shortest(name) } : { type: 'dns', value: name })),
    ),
  ]);
