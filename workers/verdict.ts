/** What follows from what is seen of a host. No I/O, and no memory but what it is told. */

import { leastWitnesses, type PowerWord, type Testimony, type Witnesses } from '../activities/platform/witnesses.ts';

export interface Observations {
  /** When it was heard last; null while it is heard. */
  silentSince: Date | null;
  /** Hosts in use in its zone, and how many of them are heard. */
  zone: { hosts: number; heard: number };
  witnesses: Witnesses;
  /** It was missed by all who could tell when they were asked the last time. */
  wasSuspect: boolean;
}

export interface Verdict {
  health: 'well' | 'unreachable' | 'suspect' | 'down';
  /** Why, and what happens next, in plain words. */
  reason: string;
  /** Most of its zone is silent: of this host nothing is concluded. */
  blames: 'zone' | 'host' | null;
}

const powerWords: Record<PowerWord, string> = {
  off: '; its BMC says that it is off',
  on: '; its BMC says that it is on, which it is too when it hangs',
  unknown: '; its BMC does not answer',
  none: '',
};

const words: Record<'peers' | 'storage', Record<Testimony, string>> = {
  peers: {
    seen: 'other hosts of its cluster reach it in the network',
    missed: 'other hosts of its cluster do not reach it in the network either',
    unknown: 'no other host of its cluster could look for it in the network',
  },
  storage: {
    seen: 'it still leaves its heartbeat in storage',
    missed: 'it leaves no heartbeat in storage any more',
    unknown: 'whether it leaves its heartbeat in storage is not known',
  },
};

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/**
 * - heard by the control plane: well.
 * - Most of the zone is silent: nothing is concluded. It is the control plane that is cut off, or everything is; a person must look.
 * - One witness sees it, or fewer than two can tell: unreachable. Its guests are left alone.
 * - All who can tell miss it, and they are two at least, of whom one may be its BMC that says that it is off: suspect, and down when it was suspect before.
 */
export function decide({ silentSince, zone, witnesses, wasSuspect }: Observations): Verdict {
  if (silentSince === null) return { health: 'well', reason: 'It answers.', blames: null };
  const silence = `The control plane has heard nothing of it since ${silentSince.toISOString().slice(0, 19)}Z`;
  if (2 * zone.heard < zone.hosts)
    return {
      health: 'unreachable',
      blames: 'zone',
      reason: `${silence}, nor of most of its zone: ${zone.heard} of ${zone.hosts} hosts are heard. That may be the fault of the control plane, so nothing is concluded and nothing is done, until most are heard again or a person decides.`,
    };
  const names = ['peers', 'storage'] as const;
  const told = names.map((name) => words[name][witnesses[name]]).join('; ') + powerWords[witnesses.power];
  const count = (testimony: Testimony): number => names.filter((name) => witnesses[name] === testimony).length;
  const isOff = witnesses.power === 'off';
  if (count('seen') > 0)
    return {
      health: 'unreachable',
      blames: 'host',
      reason: `${silence}. ${sentence(told)} So it lives, and its guests are left alone. ${isOff ? 'Its BMC may be that of another machine. ' : ''}Look at its SSH, its agent, and the network between it and the control plane; it is used again as soon as it answers.`,
    };
  // A BMC that says that it is off is one of them, and never enough alone.
  if (count('missed') + (isOff ? 1 : 0) < leastWitnesses)
    return {
      health: 'unreachable',
      blames: 'host',
      reason: `${silence}. ${sentence(told)} That is not enough to take it for dead, so its guests are left alone. If you know that it is off: belay hosts failover <host> --confirm-dead.`,
    };
  return wasSuspect
    ? { health: 'down', blames: 'host', reason: `${silence}. ${sentence(told)} They were asked twice.` }
    : { health: 'suspect', blames: 'host', reason: `${silence}. ${sentence(told)} They are asked once more.` };
}
