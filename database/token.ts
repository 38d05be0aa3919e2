/** What opens an API key, and what is kept of it. */
import { createHash, randomBytes } from 'node:crypto';

export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** A new credential: `token` is shown once, `hash` is stored. */
export function newToken(): { accessKey: string; token: string; hash: string } {
  const accessKey = randomBytes(10).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  return { accessKey, token: `belay_${accessKey}_${secret}`, hash: hashOf(secret) };
}
