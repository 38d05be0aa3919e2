/** What a value of a filter, or of a page token, may be written like. Each returns null for what it is not. */
import { forms, instantOf as instantIn } from '../../model/forms.ts';

export { isUuid } from '../../model/forms.ts';

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

/** An RFC 3339 instant in any zone, seconds left out or not, or a date meaning its first moment in UTC; in the one form of all instants. */
export const instantOf = (text: string): string | null =>
  instantIn(
    /^\d{4}-\d{2}-\d{2}$/.test(text)
      ? `${text}T00:00:00Z`
      : text.replace(/^(\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2})(?=[Zz+-])/, '$1:00'),
  );

const ofForms =
  (...names: string[]) =>
  (text: string): string | null =>
    names.some((name) => forms[name]?.fits(text)) ? text : null;

export const ipv4AddressOf = ofForms('ipv4');
export const addressOf = ofForms('ip');
/** An address, or the network of a prefix. */
export const ipv4NetworkOf = ofForms('ipv4', 'ipv4-network');
export const networkOf = ofForms('ip', 'cidr');
