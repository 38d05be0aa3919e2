import * as Type from 'typebox';
import { change, question } from './call.ts';
import { domain } from './fields.ts';

const MAX_BYTES = 1 << 20;

export const calls = {
  /** The last part of the serial log, at most `bytes`. */
  'domain.serialLog': question(
    { ...domain, bytes: Type.Integer({ minimum: 0, maximum: MAX_BYTES }) },
    { text: Type.String() },
  ),
  /** What the guest said on hosts before this one: told ahead of its log here. */
  'domain.ensureEarlierSerialLog': change({ ...domain, text: Type.String({ maxLength: MAX_BYTES }) }),
  /** The guest has left: who follows its log gets the rest, and the stream ends. */
  'domain.ensureSerialLogAbsent': change(domain),
};
