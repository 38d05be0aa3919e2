/** What follows from what is seen of a host: every case, and that no single witness decides. */
import { describe, expect, test } from 'vitest';
import { decide, type Observations, type Testimony, type Verdict } from '../../../workers/verdict.ts';
import { ofNetwork, ofStorage } from '../../../workers/witnesses.ts';

const all: Testimony[] = ['seen', 'missed', 'unknown'];
const of = (more: Partial<Observations> = {}): Verdict =>
  decide({
    silentSince: new Date('2026-03-01T12:00:07.250Z'),
    zone: { hosts: 6, heard: 5 },
    witnesses: { peers: 'missed', storage: 'missed' },
    wasSuspect: false,
    ...more,
  });

describe('a host that the control plane misses', () => {
  // peers, storage, the first time, when it was suspect before
  test.each<[Testimony, Testimony, Verdict['health'], Verdict['health']]>([
    ['seen', 'seen', 'unreachable', 'unreachable'],
    ['seen', 'missed', 'unreachable', 'unreachable'],
    ['seen', 'unknown', 'unreachable', 'unreachable'],
    ['missed', 'seen', 'unreachable', 'unreachable'],
    ['missed', 'missed', 'suspect', 'down'],
    ['missed', 'unknown', 'unreachable', 'unreachable'],
    ['unknown', 'seen', 'unreachable', 'unreachable'],
    ['unknown', 'missed', 'unreachable', 'unreachable'],
    ['unknown', 'unknown', 'unreachable', 'unreachable'],
  ])('peers %s, storage %s: %s, and %s when it was suspect', (peers, storage, first, again) => {
    const witnesses = { peers, storage };
    expect(of({ witnesses })).toMatchObject({ health: first, blames: 'host' });
    expect(of({ witnesses, wasSuspect: true })).toMatchObject({ health: again, blames: 'host' });
  });

  test.each([
    [1, 0, 'zone'],
    [2, 1, 'host'],
    [6, 3, 'host'],
    [6, 2, 'zone'],
    [6, 1, 'zone'],
    [1000, 499, 'zone'],
    [1000, 500, 'host'],
  ] as const)('of %i hosts of its zone %i are heard: the %s is to blame', (hosts, heard, blames) => {
    for (const wasSuspect of [false, true]) {
      const verdict = of({ zone: { hosts, heard }, wasSuspect });
      expect(verdict.blames).toBe(blames);
      if (blames === 'zone') expect(verdict.health).toBe('unreachable');
    }
  });

  test('a reason says in words how long, who sees it, and what happens next', () => {
    for (const peers of all)
      for (const storage of all)
        for (const wasSuspect of [true, false]) {
          const { reason } = of({ witnesses: { peers, storage }, wasSuspect });
          expect(reason).toMatch(/^The control plane has heard nothing of it since 2026-03-01T12:00:07Z\. .*\.$/);
          expect(reason.length).toBeLessThan(600);
        }
  });
});

test('a host that is heard is well, whatever others say', () => {
  for (const peers of all)
    for (const storage of all)
      expect(of({ silentSince: null, witnesses: { peers, storage }, wasSuspect: true }).health).toBe('well');
});

test('a server that speaks is seen; a kernel that refuses is, unless one takes connections and says nothing', () => {
  expect(ofNetwork([])).toBe('unknown');
  expect(ofNetwork(['silent', 'silent'])).toBe('missed');
  expect(ofNetwork(['silent', 'speaks', 'accepts'])).toBe('seen');
  expect(ofNetwork(['refuses', 'silent'])).toBe('seen');
  expect(ofNetwork(['accepts', 'refuses'])).toBe('missed');
});

test('a heartbeat that moved anywhere is seen; one that stood still is missed; who could not look says nothing', () => {
  expect(ofStorage([])).toBe('unknown');
  expect(ofStorage(['unknown', 'unknown'])).toBe('unknown');
  expect(ofStorage(['still', 'unknown'])).toBe('missed');
  expect(ofStorage(['still', 'moved'])).toBe('seen');
});
