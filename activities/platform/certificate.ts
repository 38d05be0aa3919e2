/**
 * X.509 certificates (RFC 5280) with P-256 keys. Node reads certificates but issues none; a process of `openssl` for each host would cost
 * more than all the rest of adding it.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

export interface Issued {
  certificate: string;
  key: string;
}

export interface Authority extends Issued {
  commonName: string;
}

const lifetimeYears = 10;

/** DER (X.690): a tag, the length of what follows, and that. */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

const sequence = (...parts: Buffer[]): Buffer => der(0x30, ...parts);
const octets = (content: Buffer): Buffer => der(0x04, content);
const bits = (content: Buffer, unused = 0): Buffer => der(0x03, Buffer.from([unused]), content);

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

const ecdsaWithSha256 = sequence(oid('1.2.840.10045.4.3.2'));
const commonNameOf = (text: string): Buffer =>
  sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(text)))));

/** UTCTime, which RFC 5280 wants until 2049. */
const instant = (date: Date): Buffer =>
  der(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`));

const extension = (id: string, isCritical: boolean, value: Buffer): Buffer =>
  sequence(oid(id), ...(isCritical ? [der(0x01, Buffer.from([0xff]))] : []), octets(value));

function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  // A URL's host is the address in its shortest form, without dotted parts.
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const [before, after] = [groups(head), groups(tail)];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

const alternativeName = (name: string): Buffer =>
  isIP(name) ? der(0x87, addressBytes(name)) : der(0x82, Buffer.from(name));

/** The public key as it stands in a certificate, and its SHA-1, by which chains are put together (RFC 5280, 4.2.1.2). */
function publicKeyOf(pem: string): { info: Buffer; identifier: Buffer } {
  const key = createPublicKey(pem);
  const info = key.export({ type: 'spki', format: 'der' });
  const point = info.subarray(-65);
  return { info, identifier: createHash('sha1').update(point).digest() };
}

function issue(commonName: string, extensions: Buffer[], authority?: Authority): Issued {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const subject = publicKeyOf(key);
  const issuer = authority ? publicKeyOf(authority.certificate) : subject;
  const serial = randomBytes(16);
  // A positive number without leading zeros.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const from = new Date();
  const until = new Date(from);
  until.setUTCFullYear(from.getUTCFullYear() + lifetimeYears);
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ecdsaWithSha256,
    commonNameOf(authority?.commonName ?? commonName),
    sequence(instant(from), instant(until)),
    commonNameOf(commonName),
    subject.info,
    der(
      0xa3,
      sequence(
        ...extensions,
        extension('2.5.29.14', false, octets(subject.identifier)),
        extension('2.5.29.35', false, sequence(der(0x80, issuer.identifier))),
      ),
    ),
  );
  const signature = sign('sha256', content, authority ? createPrivateKey(authority.key) : privateKey);
  const encoded = sequence(content, ecdsaWithSha256, bits(signature)).toString('base64');
  const lines = encoded.match(/.{1,64}/g)?.join('\n');
  return { certificate: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`, key };
}

const basicConstraints = (...content: Buffer[]): Buffer => extension('2.5.29.19', true, sequence(...content));
const keyUsage = (byte: number, unused: number): Buffer =>
  extension('2.5.29.15', true, bits(Buffer.from([byte]), unused));

/** Signs itself, and may sign others: keyCertSign. */
export const issueAuthority = (commonName: string): Issued =>
  issue(commonName, [basicConstraints(der(0x01, Buffer.from([0xff]))), keyUsage(0x04, 2)]);

/** For both ends of TLS, under these names: host names and IP addresses. */
export const issueForHost = (commonName: string, names: string[], authority: Authority): Issued =>
  issue(
    commonName,
    [
      basicConstraints(),
      // digitalSignature and keyEncipherment: GnuTLS refuses an ECDSA certificate for libvirtd without the latter.
      keyUsage(0xa0, 5),
      extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))),
      extension('2.5.29.17', false, sequence(...names.map(alternativeName))),
    ],
    authority,
  );
