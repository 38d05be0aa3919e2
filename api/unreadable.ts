/** Requests that end before there is one: what is no HTTP, and heads that are too long. */
import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { Problem } from '../runtime/problem.ts';
import { bodyOf } from './request.ts';

/** For the longest filter, order, field list and page token that a list takes, percent-encoded. */
export const maxHeadBytes = 128 * 1024;

/** Refuses as every other refusal is told, and ends the connection: nobody knows where a next request would begin. */
export function refuseUnreadable(error: Error & { code?: string }, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const problem =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new Problem('PAYLOAD_TOO_LARGE', `path and headers may have ${maxHeadBytes} bytes together`)
      : new Problem('MALFORMED_REQUEST', 'this is no HTTP request, or it did not arrive whole');
  const requestId = randomUUID();
  const body = bodyOf(problem, requestId);
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
