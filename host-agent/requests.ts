/**
 * What every server of the protocol, a real agent or a simulated one, asks of a request before anything is done for it. Whatever one of them refuses the
 * other refuses in the same words.
 */
import type http from 'node:http';
import { Problem } from './problem.ts';
import { checkInput } from './protocol/call.ts';
import { CALLS, type CallName, TASKS, type TaskName } from './protocol.ts';
import {
  LEASE_HEADER,
  type Lease,
  type Moment,
  readLease,
  readMoment,
  readStep,
  STEP_HEADER,
  type StepTry,
  UNTIL_HEADER,
} from './stamp.ts';

const MAX_BODY_BYTES = 4 * 1024 * 1024;
const TASK_ID = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const tooLong = () => new Problem('INVALID_ARGUMENT', `more than ${MAX_BODY_BYTES} bytes of input`);
  if (Number(request.headers['content-length']) > MAX_BODY_BYTES) {
    // Whoever is still sending hears of it when all is sent.
    request.resume();
    throw tooLong();
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += (chunk as Buffer).length;
    if (length > MAX_BODY_BYTES) throw tooLong();
    chunks.push(chunk as Buffer);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}');
  } catch {
    throw new Problem('INVALID_ARGUMENT', 'the input is not JSON');
  }
}

/** The call of this name and what it is asked with, when it is what its schema says. */
export function checkCall(name: string, input: unknown): CallName {
  if (!Object.hasOwn(CALLS, name)) throw new Problem('NOT_SUPPORTED', `this agent knows no call ${name}`);
  const call = name as CallName;
  checkInput(call, CALLS[call], input);
  return call;
}

/** The same of the body of a PUT. */
export function readTask(body: unknown): { name: TaskName; input: unknown } {
  const { name, input = {} } = (body ?? {}) as { name?: unknown; input?: unknown };
  if (typeof name !== 'string' || !Object.hasOwn(TASKS, name))
    throw new Problem('NOT_SUPPORTED', `this agent knows no task ${String(name)}`);
  const task = name as TaskName;
  checkInput(task, TASKS[task], input);
  return { name: task, input };
}

export function checkTaskId(id: string): void {
  if (!TASK_ID.test(id)) throw new Problem('INVALID_ARGUMENT', 'this is no id of a task');
}

export function checkDomainId(id: string): void {
  if (!UUID.test(id)) throw new Problem('INVALID_ARGUMENT', 'this is no id of a domain');
}

/** On whose behalf a message comes, and until when it may be acted on, as far as it says so. */
export interface Behalf {
  lease?: Lease;
  step?: StepTry;
  until?: Moment;
}

/** @throws Problem INVALID_ARGUMENT when it says so in other words, or does not say what one that `changes` something has to. */
export function readBehalf({ headers }: http.IncomingMessage, changes: boolean): Behalf {
  const said = <Value>(name: string, read: (text: string) => Value | undefined): Value | undefined => {
    const text = headers[name];
    if (text === undefined) return undefined;
    const value = read(String(text));
    if (value === undefined) throw new Problem('INVALID_ARGUMENT', `the header ${name} is malformed`);
    return value;
  };
  const lease = said(LEASE_HEADER, readLease);
  const step = said(STEP_HEADER, readStep);
  const until = said(UNTIL_HEADER, readMoment);
  if (changes && !(lease && step && until))
    throw new Problem(
      'INVALID_ARGUMENT',
      `what changes something says on whose behalf, and until when: ${LEASE_HEADER}, ${STEP_HEADER}, ${UNTIL_HEADER}`,
    );
  return { ...(lease ? { lease } : {}), ...(step ? { step } : {}), ...(until ? { until } : {}) };
}
