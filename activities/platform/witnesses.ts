/** Who says whether a host lives, when the control plane does not hear it. While all is well nobody is asked. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Database } from '../../database/database.ts';
import { type AskedAbout, askedAbout } from '../../database/detection.ts';
import { heartbeatPlaces } from '../../database/heartbeats.ts';
import { hostConnections, knownHost } from '../../database/hosts.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { probePeers } from '../../host-agent/agent/peers.ts';
import { connectHost } from '../../host-agent/connection.ts';
import { peerAddress } from '../../host-agent/peerAddress.ts';
import { BEAT_SECONDS, type NetworkSign } from '../../host-agent/protocol.ts';
import type { HostConnections } from '../../runtime/hosts.ts';
import { Problem } from '../../runtime/problem.ts';
import type { World } from '../world.ts';
import { powerOf } from './power/index.ts';

/** `unknown`: nobody could look, or what they saw says nothing. */
export type Testimony = 'seen' | 'missed' | 'unknown';

/** What the BMC of a host says; `unknown`: it does not answer; `none`: there is none. */
export type PowerWord = 'off' | 'on' | 'unknown' | 'none';

/** Everybody who can tell of a host beside the control plane. */
export interface Witnesses {
  /** Other hosts of its cluster, by the network. */
  peers: Testimony;
  /** The heartbeat that it leaves in storage. */
  storage: Testimony;
  /** That it is off is as good as one who misses it; that it is on is no sign of life, because a machine that hangs is on. */
  power: PowerWord;
}

/** So many have to miss it, the control plane not counted, and nobody may see it. */
export const leastWitnesses = 2;

/** A server in the same network answers within milliseconds; a busy one gets time for it. */
const probeMs = 1_500;
/** Longer than two heartbeats are apart at the worst; and when it was missed for so long already, longer than one. */
const watchMs = { first: 1.75 * BEAT_SECONDS * 1_000, again: 1.25 * BEAT_SECONDS * 1_000 };
/** For opening a connection to a witness, and for its answer to come. */
const askMs = 3_000;

/** By signs of one host at several addresses, as several others see them. */
export function ofNetwork(signs: readonly NetworkSign[]): Testimony {
  if (signs.length === 0) return 'unknown';
  if (signs.includes('speaks')) return 'seen';
  // Its kernel takes connections and nobody speaks in them: it hangs. Then what its kernel refuses elsewhere is no sign of life either.
  if (signs.includes('accepts')) return 'missed';
  return signs.includes('refuses') ? 'seen' : 'missed';
}

/** By what others saw of its heartbeat: whether it moved, or stood still, or nobody could tell. */
export function ofStorage(looks: readonly ('moved' | 'still' | 'unknown')[]): Testimony {
  if (looks.includes('moved')) return 'seen';
  return looks.includes('still') ? 'missed' : 'unknown';
}

async function addressesOf({ address, underlayAddress, sshPort }: AskedAbout) {
  const found = await Promise.all(
    [address, underlayAddress ?? address].map(async (name) => {
      const ip = peerAddress(name);
      return isIP(ip) ? ip : (await lookup(ip).catch(() => null))?.address;
    }),
  );
  return [...new Set(found)].flatMap((ip) => (ip === undefined ? [] : [{ address: ip, port: sshPort }]));
}

const inTime = <T>(work: Promise<T>, ms: number): Promise<T | null> =>
  Promise.race([
    work.catch(() => null),
    new Promise<null>((resolve) => {
      setTimeout(() => resolve(null), ms).unref();
    }),
  ]);

/** What the BMC of a silent host says. */
async function ofPower(database: Database, hostId: string, { hasBmc }: AskedAbout): Promise<PowerWord> {
  if (!hasBmc) return 'none';
  const asked = async (): Promise<PowerWord> =>
    (await (await powerOf(database, hostId, { withinMs: askMs }))?.state()) ?? 'none';
  return (await inTime(asked(), askMs)) ?? 'unknown';
}

/** What the peers of a silent host testify, and what its BMC says. One that does not answer in time testifies nothing. */
export async function askWitnesses(
  database: Database,
  hosts: HostConnections,
  hostId: string,
  about: AskedAbout,
): Promise<Witnesses> {
  const [addresses, places] = await Promise.all([addressesOf(about), heartbeatPlaces(database.connections, hostId)]);
  const withinMs = about.health === 'well' || about.health === 'unreachable' ? watchMs.first : watchMs.again;
  const ask = async (peer: string) => {
    const connection = await hosts.connect(peer);
    const [network, storage] = await Promise.all([
      addresses.length === 0 ? null : inTime(connection.call('peer.probe', { addresses, withinMs: probeMs }), askMs),
      places.length === 0
        ? null
        : inTime(connection.call('heartbeat.watch', { hostIds: [hostId], places, withinMs }), withinMs + askMs),
    ]);
    return { network, storage };
  };
  const [answers, power] = await Promise.all([
    Promise.all(about.peers.map((peer) => inTime(ask(peer), withinMs + 2 * askMs))),
    ofPower(database, hostId, about),
  ]);
  return {
    power,
    peers: ofNetwork(answers.flatMap((answer) => answer?.network?.signs ?? [])),
    storage: ofStorage(
      answers.map((answer) =>
        answer?.storage?.moved.includes(hostId)
          ? 'moved'
          : answer?.storage?.still.includes(hostId)
            ? 'still'
            : 'unknown',
      ),
    ),
  };
}

/** The host itself, over a connection of its own: one that is kept may have been dead for a minute. A kernel that refuses lives, too. */
export async function answers(database: Database, hostId: string): Promise<boolean> {
  const known = await knownHost(database, hostId);
  if (!known) return false;
  const { address, port } = known.target;
  const lets = async (): Promise<boolean> => {
    await (await connectHost({ ...known.target, connectTimeoutMs: askMs })).close();
    return true;
  };
  const speaks = async (): Promise<boolean> => {
    if (address.startsWith('sim://')) return false;
    const ip = isIP(address) ? address : (await lookup(address)).address;
    return (
      ofNetwork((await probePeers({ addresses: [{ address: ip, port: port ?? 22 }], withinMs: probeMs })).signs) ===
      'seen'
    );
  };
  return (await Promise.all([lets(), speaks()].map((asked) => inTime(asked, 2 * askMs)))).includes(true);
}

/** What is seen of a host right now. */
export interface Sight {
  /** How it shows that it lives, or null where nobody sees it. */
  sign: string | null;
  /** How many of those who could look have missed it: other hosts are one, the storage is another. Where nobody could look, nothing is known. */
  missedBy: number;
}

/** Asks the host itself, other hosts of its cluster, and the storage. Its BMC is not asked. */
async function lookOnce(database: Database, hostId: string): Promise<Sight> {
  const [about] = await askedAbout(database.connections, { hostId });
  if (!about) return { sign: null, missedBy: 0 };
  const [itself, { peers, storage }] = await Promise.all([
    answers(database, hostId),
    askWitnesses(database, hostConnections(database), hostId, { ...about, hasBmc: false }),
  ]);
  const missedBy = [peers, storage].filter((testimony) => testimony === 'missed').length;
  if (itself) return { sign: 'it answers', missedBy };
  if (peers === 'seen') return { sign: 'other hosts of its cluster reach it in the network', missedBy };
  return { sign: storage === 'seen' ? 'it still leaves its heartbeat in storage' : null, missedBy };
}

const looksAtMost = 3;

/** Looks again while nobody sees it and fewer miss it than are `needed`: on a busy machine those who are asked may answer too late to tell anything. */
export async function lookFor(database: Database, hostId: string, needed: number): Promise<Sight> {
  for (let looks = 1; ; looks++) {
    const sight = await lookOnce(database, hostId);
    if (sight.sign !== null || sight.missedBy >= needed || looks === looksAtMost) return sight;
  }
}

const connectionOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select(['connection', 'health', 'healthReason', 'fencedAt']).where('id', '=', p.hostId),
);

export interface Verdict {
  isDown: boolean;
  /** What it says of the host, for the reader of an error. */
  why: string;
}

/** Silence of a BMC says nothing, as its word that a host is on says nothing of whether that works. */
async function isOff(database: World['database'], hostId: string): Promise<boolean> {
  try {
    return (await (await powerOf(database, hostId))?.state()) === 'off';
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return false;
  }
}

/**
 * Whether it is proven that a host does not serve any more. One that is shut out already serves nobody, whether it answers or not. That the control plane
 * does not hear it proves nothing: unless others were asked twice, as of one that is down, they are asked now.
 */
export async function isProvenDown(
  { database }: World,
  hostId: string,
  { confirmDead }: { confirmDead: boolean },
): Promise<Verdict> {
  const [host] = await connectionOf(database.connections, { hostId });
  // Nobody listens to one that is shut out. Were it said to be dead, what it can still write to would be started elsewhere.
  if (host?.fencedAt)
    return confirmDead && (await answers(database, hostId))
      ? { isDown: false, why: 'it answers: switch it off' }
      : { isDown: true, why: 'it is shut out of its storage' };
  if (host?.connection !== 'disconnected') return { isDown: false, why: `it is ${host?.connection ?? 'gone'}` };
  const isDown: Verdict = { isDown: true, why: 'it does not answer' };
  if (confirmDead || host.health === 'down') return isDown;
  // Of one that is unreachable it was concluded already that a person has to decide: too few can tell, or most of its zone is silent.
  const isConcluded = host.health === 'unreachable';
  const { sign, missedBy } = await lookFor(database, hostId, isConcluded ? 0 : leastWitnesses);
  if (sign !== null) return { isDown: false, why: sign };
  if (!isConcluded && missedBy >= leastWitnesses) return isDown;
  // Where too few can tell, it takes the word of a person, or that of its BMC; where somebody sees it, that of a person alone.
  if (await isOff(database, hostId)) return isDown;
  const unproven =
    'fewer than two others miss it, so it is not proven to be down: if you know that it is off, say so with confirmDead';
  return { isDown: false, why: (isConcluded && host.healthReason) || unproven };
}
