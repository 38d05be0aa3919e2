/** What follows from what is seen of a host: every case, and that no single witness decides. */
import { describe, expect, test } from 'vitest';
import { ofNetwork, ofStorage, type PowerWord, type Testimony } from '../../../activities/platform/witnesses.ts';
import { decide, type Observations, type Verdict } from '../../../workers/verdict.ts';

const all: Testimony[] = ['seen', 'missed', 'unknown'];
const of = (more: Partial<Observations> = {}): Verdict =>
  decide({
    silentSince: new Date('2026-03-01T12:00:07.250Z'),
    zone: { hosts: 6, heard: 5 },
    witnesses: { peers: 'missed', storage: 'missed', power: 'none' },
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
    const witnesses = { peers, storage, power: 'none' } as const;
    expect(of({ witnesses })).toMatchObject({ health: first, blames: 'host' });
    expect(of({ witnesses, wasSuspect: true })).toMatchObject({ health: again, blames: 'host' });
  });

  // With nobody else who could tell, or with others who see it.
  test.each<[PowerWord, Testimony, Verdict['health'], Verdict['health']]>([
    ['off', 'unknown', 'unreachable', 'unreachable'],
    ['off', 'missed', 'suspect', 'down'],
    ['off', 'seen', 'unreachable', 'unreachable'],
    ['on', 'unknown', 'unreachable', 'unreachable'],
    ['on', 'missed', 'suspect', 'down'],
    ['unknown', 'unknown', 'unreachable', 'unreachable'],
    ['unknown', 'missed', 'suspect', 'down'],
  ])('its BMC says %s, others %s: %s, and %s when it was suspect', (power, others, first, again) => {
    const witnesses = { peers: others, storage: others, power };
    expect(of({ witnesses })).toMatchObject({ health: first, blames: 'host' });
    const { health, reason } = of({ witnesses, wasSuspect: true });
    expect(health).toBe(again);
    expect(reason).toContain(
      { off: 'says that it is off', on: 'says that it is on', unknown: 'BMC does not answer', none: '' }[power],
    );
  });

  test('its BMC that says off is one witness beside another who misses it, and alone decides nothing', () => {
    for (const [peers, storage] of [
      ['missed', 'unknown'],
      ['unknown', 'missed'],
    ] as const) {
      const health = (power: PowerWord): Verdict['health'] =>
        of({ witnesses: { peers, storage, power }, wasSuspect: true }).health;
      expect([health('off'), health('on'), health('none')]).toEqual(['down', 'unreachable', 'unreachable']);
    }
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
          const { reason } = of({ witnesses: { peers, storage, power: 'none' }, wasSuspect });
          expect(reason).toMatch(/^The control plane has heard nothing of it since 2026-03-01T12:00:07Z\. .*\.$/);
          expect(reason.length).toBeLessThan(600);
        }
  });
});

test('a host that is heard is well, whatever others say', () => {
  for (const peers of all)
    for (const storage of all)
      for (const power of ['off', 'on', 'unknown', 'none'] as const)
        expect(of({ silentSince: null, witnesses: { peers, storage, power }, wasSuspect: true }).health).toBe('well');
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
