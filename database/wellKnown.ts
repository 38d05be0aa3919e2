/** Ids that are known beforehand. */
import { createHash } from 'node:crypto';

const fixed = (n: number): string => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

/** Ids that are the same in every installation. */
export const wellKnown = {
  platform: fixed(1),
  rootDomain: fixed(2),
  rootAccount: fixed(3),
  rootProject: fixed(4),
  admin: fixed(5),
  adminBinding: fixed(6),
};

/** Whose the platform's own secrets are. No resource has this kind, so no resource's end can take them along. */
export const platformOwner = { kind: 'platform', id: wellKnown.platform };

/** The same name always gives the same id (RFC 9562 version 8, from SHA-256). */
export function idOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Comes before all others: where pages in the order of ids begin. */
export const firstId = '00000000-0000-0000-0000-000000000000';
