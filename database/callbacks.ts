/** What the API promises and the dispatcher keeps: a signed message when an operation has ended. */
import { randomBytes } from 'node:crypto';

/** Under which name an API key's signing secret is kept. */
export const callbackSecretField = 'callbackSecret';

/** In the form of Standard Webhooks: `whsec_` and 32 random bytes in base64. */
export const newCallbackSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;
