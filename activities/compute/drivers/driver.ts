/** What guests on a host can be asked for, whatever runs them. One driver for each hypervisor; `index.ts` has the table of them. */
import type { HostInStep } from '../../../host-agent/connection.ts';
import type { DiskSpec, DomainSpec, DomainStatus, InterfaceSpec } from '../../../host-agent/protocol.ts';
import type { DiskAccess } from '../../storage/drivers/driver.ts';

/** Long work on a host, under an id of the caller's: asked for again it is the same work, and it is cancelled with its step. */
export interface LongWork {
  id: string;
  signal: AbortSignal;
  onProgress?: (percent: number) => void;
}

export interface Move {
  targetAddress: string;
  /** How the target opens the disks. */
  access: DiskAccess;
  bandwidthBytesPerSec: number | null;
  autoConverge: boolean;
}

export interface Moved {
  downtimeMs: number;
  totalMs: number;
  transferredBytes: number;
}

/** The guests of one host, each by its instance's id. All of it may be asked for twice, and *absent* of what was never there. */
export interface Guests {
  ensureDefined(spec: DomainSpec): Promise<void>;
  ensureRunning(id: string): Promise<void>;
  /** Forced off, and forgotten by the host. */
  ensureAbsent(id: string): Promise<void>;
  status(id: string): Promise<DomainStatus>;

  /** @throws TIMEOUT where the guest does not obey */
  shutDown(id: string, timeoutSeconds: number, work: LongWork): Promise<void>;
  /** What a worker that died may have left of it. Answers when it has come to rest. */
  endShutDown(id: string, workId: string): Promise<void>;
  reset(id: string): Promise<void>;
  reboot(id: string, timeoutSeconds: number, work: LongWork): Promise<void>;

  move(id: string, move: Move, work: LongWork): Promise<Moved>;
  endMove(id: string, targetAddress: string, workId: string): Promise<void>;
  /** Whoever began a move, it does not go on. Answers what is here then. */
  ensureNotMoving(id: string): Promise<DomainStatus>;
  /** What a move that has ended has left holding still goes on. Asked only for a guest that no other host has. */
  ensureGoesOn(id: string): Promise<void>;

  ensureDisk(id: string, disk: DiskSpec): Promise<void>;
  /** @throws NOT_FOUND where the guest is not, and `mustBeThere` */
  ensureDiskAbsent(id: string, volumeId: string, mustBeThere: boolean): Promise<void>;
  /** Plugged in, its link up or down as it is said. */
  ensureInterface(id: string, nic: InterfaceSpec): Promise<void>;
  /** @throws NOT_FOUND where the guest is not, and `mustBeThere` */
  ensureInterfaceAbsent(id: string, interfaceId: string, mustBeThere: boolean): Promise<void>;
  growDisk(id: string, volumeId: string, sizeGib: number): Promise<void>;
  /** False where the guest can not be asked to hold its file systems still. */
  freeze(id: string): Promise<boolean>;
  thaw(id: string): Promise<void>;

  /** The last part of what the guest has said. */
  serialLog(id: string, bytes: number): Promise<string>;
  ensureEarlierSerialLog(id: string, text: string): Promise<void>;
  ensureSerialLogAbsent(id: string): Promise<void>;
}

export type ComputeDriver = (host: HostInStep) => Guests;
