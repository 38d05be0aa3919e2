import { ApplicationFailure, TemporalFailure } from '@temporalio/common';
import { isOutage, missOf } from '../database/database.ts';
import { problemOfRule } from '../database/uniqueness.ts';
import { AgentError } from '../host-agent/agentError.ts';
import { Problem, type ProblemCode, type ProblemDetails } from '../runtime/problem.ts';

/** A failure that trying again can not mend: the operation unwinds at once. `code` is one of the product's error codes. */
export function refuse(code: ProblemCode, message: string, details: ProblemDetails = {}): ApplicationFailure {
  return ApplicationFailure.create({ message, type: code, nonRetryable: true, details: [details] });
}

/** A failure that may pass by itself. */
export function tryAgain(code: ProblemCode, message: string, details: ProblemDetails = {}): ApplicationFailure {
  return ApplicationFailure.create({ message, type: code, nonRetryable: false, details: [details] });
}

/** What Temporal is told of an error thrown by a step: code, message, whether it may pass; no stack of ours. */
export function failureOf(error: unknown): unknown {
  if (error instanceof AgentError)
    return ApplicationFailure.create({
      message: error.message,
      type: error.code,
      nonRetryable: !error.retryable,
      details: [{ host: error.host }],
    });
  const problem = error instanceof Problem ? error : problemOfRule(error);
  if (problem)
    return ApplicationFailure.create({
      message: problem.message,
      type: problem.code,
      nonRetryable: problem.status < 500,
      details: [problem.details],
    });
  // What is not there now will not be there for another try.
  const miss = missOf(error);
  if (miss) return refuse('NOT_FOUND', miss);
  // PostgreSQL, or whatever else the step spoke to without a name of its own for it.
  if (isOutage(error))
    return ApplicationFailure.create({
      message: `what this step needs does not answer: ${(error as Error).message}`,
      type: 'BACKEND_UNAVAILABLE',
      nonRetryable: false,
    });
  // A defect, or an outage that nobody named: a code of ours all the same. Temporal knows its own failures, and cancellations by name.
  if (error instanceof Error && !(error instanceof TemporalFailure) && error.name !== 'AbortError')
    return ApplicationFailure.create({ message: error.message, type: 'INTERNAL', nonRetryable: false, cause: error });
  return error;
}
