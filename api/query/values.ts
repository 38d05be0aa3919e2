/** What a value of a filter, or of a page token, may be written like. Each returns null for what it is not. */

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isUuid = (text: string): boolean => UUID.test(text);

const BIGINT_MAX = 2n ** 63n - 1n;

/** A whole number within PostgreSQL's `bigint`, as text, so that no digit is lost. */
export function integerOf(text: string): string | null {
  if (!/^-?\d{1,19}$/.test(text)) return null;
  const value = BigInt(text);
  return value <= BIGINT_MAX && value >= -BIGINT_MAX ? value.toString() : null;
}

/** A finite number in decimal or exponent notation. */
export function numberOf(text: string): number | null {
  if (!/^-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

export function booleanOf(text: string): boolean | null {
  if (text === 'true') return true;
  return text === 'false' ? false : null;
}

const INSTANT =
  /^(\d{4})-(\d{2})-(\d{2})(?:[Tt ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(\.\d{1,9})?)?(?:[Zz]|([+-])(0\d|1[0-4]):([0-5]\d)))?$/;

/** An RFC 3339 instant, or a date meaning its first moment in UTC; as text that PostgreSQL takes, to the microsecond. */
export function instantOf(text: string): string | null {
  const match = INSTANT.exec(text);
  if (!match) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return null;
  // A bare date would otherwise begin wherever the session's time zone has midnight.
  return match[4] === undefined ? `${text}T00:00:00Z` : text.toUpperCase();
}

const daysIn = (year: number, month: number): number => {
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && leap ? 29 : ([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0);
};
