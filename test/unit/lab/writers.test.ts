import { describe, expect, test } from 'vitest';
import { type GuestEvent, readGuestEvents, type ShutOut, writersIn } from '../../../lab/real/writers.ts';

const runs = (at: number, host: string): GuestEvent => ({ at, host, guest: 'g', runs: true });
const stops = (at: number, host: string): GuestEvent => ({ at, host, guest: 'g', runs: false });
const off = (at: number, host: string): GuestEvent => ({ at, host, running: [] });
/** Nobody has listened before. */
const heard = (at: number, host: string, ...running: string[]): GuestEvent => ({ at, host, running });
const shut = (at: number, ...hosts: string[]): ShutOut => ({ at, hosts });
const wrong = (events: GuestEvent[], fences: ShutOut[] = []): number => writersIn(events, fences).wrong.length;

describe('two that may write at once are seen', () => {
  for (const [what, events, fences] of [
    ['it begins elsewhere while it runs', [runs(1, 'a'), runs(2, 'b')], []],
    ['the target of a migration begins before the source stops', [runs(1, 'a'), runs(2, 'b'), stops(3, 'a')], []],
    ['it begins before the fence', [runs(1, 'a'), runs(2, 'b')], [shut(3, 'a')]],
    ['one is found running that nobody heard begin', [runs(1, 'a'), heard(2, 'b', 'g')], []],
    ['another host is shut out', [runs(1, 'a'), runs(3, 'b')], [shut(2, 'c')]],
    ['the fence falls while the old one still runs', [runs(1, 'a'), runs(3, 'b')], [shut(2, 'a'), shut(4)]],
  ] as [string, GuestEvent[], ShutOut[]][])
    test(what, () => expect(wrong(events, fences)).toBe(1));
});

describe('one at a time is right', () => {
  for (const [what, events, fences] of [
    ['a migration', [runs(1, 'a'), stops(2, 'a'), runs(3, 'b')], []],
    ['a host without power', [runs(1, 'a'), off(2, 'a'), runs(3, 'b')], []],
    ['a host that is shut out and lives', [runs(1, 'a'), runs(3, 'b')], [shut(2, 'a')]],
    ['a host that is let in again without it', [runs(1, 'a'), runs(3, 'b'), stops(4, 'a')], [shut(2, 'a'), shut(5)]],
    ['one is found gone that nobody heard stop', [runs(1, 'a'), heard(2, 'a'), runs(3, 'b')], []],
    ['two guests', [runs(1, 'a'), { ...runs(2, 'b'), guest: 'h' }], []],
    ['a guest that goes on where it was', [runs(1, 'a'), stops(2, 'a'), runs(3, 'a')], []],
  ] as [string, GuestEvent[], ShutOut[]][])
    test(what, () => expect(writersIn(events, fences)).toMatchObject({ wrong: [] }));

  test('and it is counted what began, and what began beside one that was shut out', () => {
    expect(writersIn([runs(1, 'a'), runs(3, 'b')], [shut(2, 'a')])).toEqual({ begun: 2, shutOut: 1, wrong: [] });
  });
});

test('the log of a host is read in the words of virsh', () => {
  const log = [
    "event RESUME at 1795788000.250000 for domain 'instance-1': <null>",
    "2026-11-27 14:00:01.500+0000: event 'lifecycle' for domain 'instance-1': Resumed Unpaused",
    "event STOP at 1795788002.000001 for domain 'instance-1': <null>",
    "2026-11-27 14:00:03.000+0000: event 'lifecycle' for domain 'instance-1': Stopped Failed",
    'off at 1795788004.5',
    'listening at 1795788005.250000: ',
    'listening at 1795788006.250000: instance-1 instance-2',
    'error: Disconnected from qemu:///system due to end of file',
  ].join('\n');
  expect(readGuestEvents('host1', log)).toEqual([
    { host: 'host1', at: 1795788000.25, guest: 'instance-1', runs: true },
    { host: 'host1', at: 1795788002.000001, guest: 'instance-1', runs: false },
    { host: 'host1', at: 1795788003, guest: 'instance-1', runs: false },
    { host: 'host1', at: 1795788004.5, running: [] },
    { host: 'host1', at: 1795788005.25, running: [] },
    { host: 'host1', at: 1795788006.25, running: ['instance-1', 'instance-2'] },
  ]);
});
