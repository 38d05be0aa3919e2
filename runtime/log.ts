import { pino } from 'pino';
import { config } from './config.ts';

/** JSON lines on standard output, with request and operation ids where there are any. Secrets are never passed to it. */
export const log = pino({
  level: config.logLevel,
  base: { process: config.processName },
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (level) => ({ level }) },
});

export type Log = typeof log;
