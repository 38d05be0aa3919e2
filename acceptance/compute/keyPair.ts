import { createHash } from 'node:crypto';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

/** Reads the fields of a key blob one after another: each is its length in four bytes, and so many bytes (RFC 4251 5). */
class Fields {
  #at = 0;
  readonly #blob: Buffer;
  constructor(blob: Buffer) {
    this.#blob = blob;
  }

  /** Null where the blob ends before the field does. */
  next(): Buffer | null {
    if (this.#at + 4 > this.#blob.length) return null;
    const end = this.#at + 4 + this.#blob.readUInt32BE(this.#at);
    if (end > this.#blob.length) return null;
    const field = this.#blob.subarray(this.#at + 4, end);
    this.#at = end;
    return field;
  }

  text = (): string | null => this.next()?.toString('latin1') ?? null;
  ended = (): boolean => this.#at === this.#blob.length;
}

const hasLength = (field: Buffer | null, length: number): boolean => field?.length === length;

/** A positive mpint in its shortest form (RFC 4251 5), of at least so many bits. */
function isPositive(field: Buffer | null, bits: number): boolean {
  const [first = 0x80, second = 0] = field ?? [];
  if (!field || first >= 0x80 || (first === 0 && second < 0x80)) return false;
  const digits = first === 0 ? field.subarray(1) : field;
  return (digits.length - 1) * 8 + (32 - Math.clz32(digits[0] ?? 0)) >= bits;
}

/** RFC 5656 3.1: the curve's name once more, and an uncompressed point on it. */
const ecdsa =
  (curve: string, coordinateBytes: number) =>
  (fields: Fields): boolean => {
    if (fields.text() !== curve) return false;
    const point = fields.next();
    return hasLength(point, 1 + 2 * coordinateBytes) && point?.[0] === 4;
  };

/** What follows the name of the type in a blob. */
const types: Readonly<Record<string, (fields: Fields) => boolean>> = {
  // RFC 8709 4
  'ssh-ed25519': (fields) => hasLength(fields.next(), 32),
  // RFC 4253 6.6: exponent and modulus. OpenSSH takes no modulus below 1024 bits.
  'ssh-rsa': (fields) => isPositive(fields.next(), 2) && isPositive(fields.next(), 1024),
  'ecdsa-sha2-nistp256': ecdsa('nistp256', 32),
  'ecdsa-sha2-nistp384': ecdsa('nistp384', 48),
  'ecdsa-sha2-nistp521': ecdsa('nistp521', 66),
  // OpenSSH, PROTOCOL.u2f: the key, and the application that it is for.
  'sk-ssh-ed25519@openssh.com': (fields) => hasLength(fields.next(), 32) && (fields.text() ?? '') !== '',
};

export interface PublicKey {
  publicKey: string;
  type: string;
  fingerprint: string;
}

/** One public key as OpenSSH writes it, in one line: type, blob, comment. Throws INVALID_ARGUMENT. */
export function publicKeyOf(given: string): PublicKey {
  const line = given.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '');
  if (/[\r\n]/.test(line)) throw invalid('publicKey', 'has more than one line; a key pair holds one key');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  if (/[\u0000-\u0008\u000b-\u001f\u007f]/.test(line)) throw invalid('publicKey', 'holds a control character');
  const [type = '', body = '', ...comment] = line.split(/[ \t]+/);
  const known = Object.hasOwn(types, type) ? types[type] : undefined;
  if (!known) throw invalid('publicKey', `is no OpenSSH public key of type ${Object.keys(types).join(', ')}`);
  const blob = Buffer.from(body, 'base64');
  const written = blob.toString('base64');
  const fields = new Fields(blob);
  if (body !== written && body !== written.replace(/=+$/, ''))
    throw invalid('publicKey', `is no OpenSSH public key: what follows ${type} is not in base64`);
  if (fields.text() !== type || !known(fields) || !fields.ended())
    throw invalid(
      'publicKey',
      `is no OpenSSH public key: what follows ${type} is no key of this type, or not a whole one`,
    );
  return {
    publicKey: [type, written, ...comment].join(' '),
    type,
    fingerprint: `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`,
  };
}

export const keyPairHooks: Hooks = {
  'keyPair.create': {
    accept({ row, input }) {
      Object.assign(row, publicKeyOf(String(input.publicKey)));
    },
  },
};
