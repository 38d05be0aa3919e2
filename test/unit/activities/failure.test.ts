import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { failureOf } from '../../../activities/failure.ts';
import { AgentError } from '../../../host-agent/agentError.ts';
import { Problem } from '../../../runtime/problem.ts';

describe('what Temporal is told of a failed step', () => {
  it('has the code of a host or of ours', () => {
    expect(failureOf(new AgentError('TIMEOUT', 'late', true, 'h'))).toMatchObject({
      type: 'TIMEOUT',
      nonRetryable: false,
      details: [{ host: 'h' }],
    });
    expect(failureOf(new Problem('NO_CAPACITY', 'full'))).toMatchObject({ type: 'NO_CAPACITY', nonRetryable: true });
  });

  it('is BACKEND_UNAVAILABLE of a database that is away, and may pass', () => {
    for (const outage of [
      Object.assign(new Error('terminating connection due to administrator command'), { code: '57P01' }),
      Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:5432'), { code: 'ECONNREFUSED' }),
      new Error('Connection terminated unexpectedly'),
    ])
      expect(failureOf(outage)).toMatchObject({ type: 'BACKEND_UNAVAILABLE', nonRetryable: false });
    const defect = Object.assign(new Error('column "x" does not exist'), { code: '42703' });
    expect(failureOf(defect)).toMatchObject({ type: 'INTERNAL' });
  });

  it('is INTERNAL of whatever has no code, and may pass', () => {
    expect(failureOf(new TypeError('x is not a function'))).toMatchObject({
      type: 'INTERNAL',
      message: 'x is not a function',
      nonRetryable: false,
    });
  });

  it("is the failure itself of Temporal's own, and of what was aborted", () => {
    for (const error of [
      ApplicationFailure.nonRetryable('no', 'NOT_FOUND'),
      new CancelledFailure('cancelled'),
      new DOMException('aborted', 'AbortError'),
    ])
      expect(failureOf(error)).toBe(error);
  });
});
