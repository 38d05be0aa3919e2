/**
 * Whether a guest was ever able to write from two hosts at once, over all that has happened: by what QEMU and libvirt said on each host, and by the
 * storage's own history of whom it shuts out. Belay's records have no part in it.
 */
import { readFileSync } from 'node:fs';
import { blocklistHistory } from './ceph.ts';
import { guestEventsLog, hostFile } from './host.ts';
import { type HostNumber, hostAddress, hostName, hostNumbers, labPaths } from './layout.ts';

/** `at` is in seconds since 1970. */
export type GuestEvent = { at: number; host: string } & (
  | { guest: string; runs: boolean }
  /** All that run there: nobody has listened for a while, or the host went off. */
  | { running: string[] }
);

/** From `at` on the storage takes nothing from these hosts, and takes what others send. */
export interface ShutOut {
  at: number;
  hosts: readonly string[];
}

const ofQemu = /^event (STOP|RESUME|SHUTDOWN) at (\d+\.\d+) for domain '([^']+)'/;
const ofLibvirt = /^(\S+) (\S+)\+0000: event 'lifecycle' for domain '([^']+)': Stopped/;
const ofHost = /^(?:off at (\d+\.?\d*)|listening at (\d+\.\d+): ?(.*))$/;

/** What the log of a host tells. QEMU's own clock tells when a guest began and stopped to run; libvirt tells of those that were killed. */
export function readGuestEvents(host: string, log: string): GuestEvent[] {
  return log.split('\n').flatMap((line): GuestEvent[] => {
    const said = ofQemu.exec(line);
    if (said) return [{ host, at: Number(said[2]), guest: String(said[3]), runs: said[1] === 'RESUME' }];
    const stopped = ofLibvirt.exec(line);
    if (stopped)
      return [{ host, at: Date.parse(`${stopped[1]}T${stopped[2]}Z`) / 1000, guest: String(stopped[3]), runs: false }];
    const all = ofHost.exec(line);
    return all ? [{ host, at: Number(all[1] ?? all[2]), running: (all[3] ?? '').split(' ').filter(Boolean) }] : [];
  });
}

export interface Writers {
  /** How often a guest began to run, a migration's target included. */
  begun: number;
  /** How often one began while it still ran on a host that was shut out. */
  shutOut: number;
  /** One line for each moment at which two could write. */
  wrong: string[];
}

/** Goes through all events in the order of time. */
export function writersIn(events: readonly GuestEvent[], fences: readonly ShutOut[]): Writers {
  const found: Writers = { begun: 0, shutOut: 0, wrong: [] };
  const runningOn = new Map<string, Set<string>>();
  let shut: readonly string[] = [];
  const check = (guest: string, at: number, what: string): void => {
    const hosts = [...(runningOn.get(guest) ?? [])];
    const writing = hosts.filter((host) => !shut.includes(host));
    if (writing.length > 1)
      found.wrong.push(
        `${new Date(at * 1000).toISOString()} ${guest} may write on ${writing.sort().join(' and ')}: ${what}`,
      );
  };
  const hostsOf = (guest: string): Set<string> => {
    const hosts = runningOn.get(guest) ?? new Set();
    runningOn.set(guest, hosts);
    return hosts;
  };
  const begin = (guest: string, host: string, at: number): void => {
    const hosts = hostsOf(guest);
    found.begun += 1;
    if ([...hosts].some((other) => other !== host && shut.includes(other))) found.shutOut += 1;
    hosts.add(host);
    check(guest, at, `it began on ${host}`);
  };
  // A fence counts before what happens in the same moment.
  const all = [...fences, ...events].sort((a, b) => a.at - b.at);
  for (const one of all)
    if ('hosts' in one) {
      shut = one.hosts;
      const taking = shut.length === 0 ? 'all' : `all but ${shut.join(', ')}`;
      for (const guest of runningOn.keys()) check(guest, one.at, `the storage takes from ${taking}`);
    } else if ('running' in one) {
      const { at, host, running } = one;
      for (const [guest, hosts] of runningOn) if (!running.includes(guest)) hosts.delete(host);
      for (const guest of running) if (!hostsOf(guest).has(host)) begin(guest, host, at);
    } else if (one.runs) begin(one.guest, one.host, one.at);
    else hostsOf(one.guest).delete(one.host);
  return found;
}

/** Over the life of the lab that is up at this home. */
export async function writers(home: string): Promise<Writers> {
  const paths = labPaths(home);
  const logOf = (host: HostNumber): string => {
    const log = readFileSync(hostFile(paths, host, guestEventsLog), 'utf8');
    if (!log.includes('listening at')) throw new Error(`nobody has listened to the guests of ${hostName(host)}`);
    return log;
  };
  const events = hostNumbers.flatMap((host) => readGuestEvents(hostName(host), logOf(host)));
  const isShut = (entries: readonly string[]) => (host: HostNumber) => entries.includes(`${hostAddress(host)}:0/0`);
  const fences = (await blocklistHistory(paths)).map(({ at, entries }) => ({
    at,
    hosts: hostNumbers.filter(isShut(entries)).map(hostName),
  }));
  return writersIn(events, fences);
}
