/**
 * What texts are written like, beyond their length: how a form is told to people, what has it, and the one way in which a value is kept when
 * it could be written in several. A value that only looks like what is meant is refused, not read in some other sense.
 */
export interface Form {
  /** Goes on after the field's name. */
  words: string;
  fits(text: string): boolean;
  /** The same value as it is kept and told. */
  canonical?(text: string): string;
}

const decimal = /^(0|[1-9]\d{0,2})$/;

/** Its 32 bits; null for what is no address. A leading zero is octal to some programs and nothing to others, so it is no address here. */
export function ipv4Of(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => decimal.test(part) && Number(part) < 256)) return null;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** Its bits, and the shortest way to write an IPv6 address (RFC 5952); null for what is none. */
export function ipv6Of(text: string): { bits: bigint; text: string } | null {
  if (!/^[0-9A-Fa-f:.]+$/.test(text) || !text.includes(':') || !URL.canParse(`http://[${text}]`)) return null;
  const written = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const [head = '', tail] = written.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = groups(tail ?? '');
  const all = [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after];
  return { bits: all.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n), text: written };
}

/** A network with what is behind its prefix left at zero; null for what is none. */
function networkOf(text: string, families: readonly (4 | 6)[]): string | null {
  const [, address = '', length = ''] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
  const four = families.includes(4) ? ipv4Of(address) : null;
  if (four !== null) return Number(length) <= 32 && four % 2 ** (32 - Number(length)) === 0 ? text : null;
  const six = families.includes(6) ? ipv6Of(address) : null;
  if (six === null || length === '' || Number(length) > 128) return null;
  return six.bits % (1n << BigInt(128 - Number(length))) === 0n ? `${six.text}/${length}` : null;
}

const instant =
  /^(\d{4})-(\d{2})-(\d{2})[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)$/;

/**
 * An instant as it is told everywhere: RFC 3339, in UTC, to the microsecond, as PostgreSQL keeps it. Takes what RFC 3339 allows in any zone,
 * and what PostgreSQL and JavaScript write. Null for what is none, such as the 30th of February.
 */
export function instantOf(text: string): string | null {
  const match = instant.exec(text);
  if (!match) return null;
  const [, year, month, day, hour, minute, second, fraction = '', sign, zoneHours = '0', zoneMinutes = '0'] = match;
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
  const at = Date.parse(local);
  if (Number.isNaN(at) || new Date(at).toISOString().slice(0, 10) !== local.slice(0, 10)) return null;
  const ahead = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60_000 * (sign === '-' ? -1 : 1);
  const inUtc = new Date(at - ahead).toISOString();
  // A zone can carry it out of the years that have four digits.
  return /^\d{4}-/.test(inUtc) && !inUtc.startsWith('0000')
    ? `${inUtc.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z`
    : null;
}

/** Now, or another moment of JavaScript's, in the form of all instants. */
export const instantAt = (moment: Date = new Date()): string => moment.toISOString().replace('Z', '000Z');

/** The same form, as PostgreSQL's to_char writes an instant that is in UTC. */
export const instantFormat = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';

/** Whether it is one, as those that are in records are written. */
export const isUuid = (text: string): boolean => uuid.test(text);

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

const fingerprint = /^[0-9a-f]{2}(:?[0-9a-f]{2}){31}$/i;

/** By the name of their `format` in JSON Schema. */
export const forms: Readonly<Record<string, Form>> = {
  uuid: { words: 'must be a UUID', fits: (text) => uuid.test(text), canonical: (text) => text.toLowerCase() },
  'date-time': {
    words: 'must be an instant such as 2026-01-31T12:00:00Z',
    fits: (text) => instantOf(text) !== null,
    canonical: (text) => instantOf(text) ?? text,
  },
  ipv4: {
    words: 'must be an IPv4 address such as 10.0.0.7, without leading zeros',
    fits: (text) => ipv4Of(text) !== null,
  },
  ip: {
    words: 'must be an IP address such as 10.0.0.7 or fd00::7, without leading zeros',
    fits: (text) => ipv4Of(text) !== null || ipv6Of(text) !== null,
    canonical: (text) => ipv6Of(text)?.text ?? text,
  },
  ipv6: {
    words: 'must be an IPv6 address such as fd00::7',
    fits: (text) => ipv6Of(text) !== null,
    canonical: (text) => ipv6Of(text)?.text ?? text,
  },
  'ipv4-network': {
    words: 'must be an IPv4 network such as 10.0.0.0/24, without leading zeros, all bits behind the prefix zero',
    fits: (text) => networkOf(text, [4]) !== null,
  },
  sha256: {
    words: 'must be a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons between each two',
    fits: (text) => fingerprint.test(text),
    canonical: (text) => text.replaceAll(':', '').toLowerCase(),
  },
  cidr: {
    words: 'must be a network such as 10.0.0.0/8 or fd00::/8, without leading zeros, all bits behind the prefix zero',
    fits: (text) => networkOf(text, [4, 6]) !== null,
    canonical: (text) => networkOf(text, [4, 6]) ?? text,
  },
};

/** Those that the database keeps, and orders, as addresses. */
export const addressForms: ReadonlySet<unknown> = new Set(['ip', 'cidr', 'ipv4', 'ipv6', 'ipv4-network']);

const words = new Map<string, string>();

/** A regular expression for programs, with words for people: `must be …`. */
export function pattern(expression: string, told: string): string {
  words.set(expression, told);
  return expression;
}

export const wordsOfPattern = (expression: string): string | undefined => words.get(expression);
