import { expect, test } from 'vitest';
import { resumeAfter } from '../../../api/events.ts';
import { Problem } from '../../../runtime/problem.ts';

const answer = (given: string): string => {
  try {
    return resumeAfter(given, '50', '41');
  } catch (error) {
    if (error instanceof Problem) return `${error.code} ${error.message}`;
    throw error;
  }
};

test('a stream goes on behind the event that a follower names, or with the next one', () => {
  expect(['', '40', '41', '50'].map(answer)).toEqual(['50', '40', '41', '50']);
});

test('what is yet to come, long gone, or no number is refused by the name of the header', () => {
  expect(answer('51')).toBe('INVALID_ARGUMENT Last-Event-ID is ahead of the newest event, which is 50');
  expect(answer('39')).toBe('INVALID_ARGUMENT Last-Event-ID is behind the oldest event that is kept, which is 41');
  for (const given of ['-1', '1e1', '041', 'x']) expect(answer(given)).toMatch(/must be the number of an event/);
});
