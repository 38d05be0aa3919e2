import { connectRpc, LibvirtError, LibvirtUnavailable, QEMU_PROGRAM, type RpcConnection } from './libvirtRpc.ts';
import { parseUuid, type TypedParameters, type XdrReader, type XdrWriter, xdrWriter } from './xdr.ts';

export { LibvirtError, LibvirtUnavailable } from './libvirtRpc.ts';

/** Procedure numbers of libvirt's `remote_protocol.x`; they never change. */
const PROCEDURE = {
  connectOpen: 1,
  connectGetVersion: 4,
  domainCreate: 9,
  domainDestroy: 12,
  domainGetXml: 14,
  domainLookupByName: 23,
  domainLookupByUuid: 24,
  domainReboot: 27,
  domainResume: 28,
  authList: 66,
  secretLookupByUuid: 141,
  secretDefine: 142,
  secretGetXml: 143,
  secretSetValue: 144,
  secretUndefine: 146,
  connectGetLibVersion: 157,
  domainAttachDevice: 160,
  domainDetachDevice: 161,
  domainAbortJob: 164,
  domainUpdateDevice: 174,
  domainGetBlockInfo: 194,
  domainIsPersistent: 151,
  domainGetState: 212,
  domainUndefine: 231,
  domainReset: 245,
  domainSnapshotCreate: 185,
  domainBlockJobAbort: 237,
  domainGetBlockJobInfo: 238,
  domainBlockResize: 251,
  domainSetBlockIoTune: 252,
  domainShutdown: 258,
  domainGetMetadata: 265,
  connectListAllDomains: 273,
  connectListAllSecrets: 287,
  domainBlockCommit: 290,
  domainGetJobStats: 298,
  domainMigratePerform: 305,
  eventRegister: 316,
  eventLifecycle: 318,
  domainFreeze: 335,
  domainThaw: 336,
  connectGetAllDomainStats: 344,
  domainDefine: 350,
  eventReboot: 319,
  eventJobCompleted: 363,
} as const;

const QEMU_AGENT_COMMAND = 3;

/** `virErrorNumber` values that callers tell apart. */
export const LIBVIRT_CODE = {
  noDomain: 42,
  operationInvalid: 55,
  noSecret: 66,
  operationAborted: 78,
  noDomainMetadata: 80,
  agentUnresponsive: 86,
  deviceMissing: 99,
} as const;

export const AFFECT_LIVE = 1;
export const AFFECT_CONFIG = 2;

/** `virDomainXMLFlags`. */
const XML_SECURE = 1;
const XML_INACTIVE = 2;
const XML_MIGRATABLE = 8;
const XML_FLAGS = {
  now: 0,
  config: XML_INACTIVE,
  /** Without what only this host knows, as another host's libvirt takes it. */
  movingNow: XML_SECURE | XML_MIGRATABLE,
  movingConfig: XML_SECURE | XML_MIGRATABLE | XML_INACTIVE,
} as const;
const METADATA_ELEMENT = 2;
const METADATA_FROM_CONFIG = 2;
const UNDEFINE_MANAGED_SAVE = 1;
const UNDEFINE_SNAPSHOTS_METADATA = 2;
const UNDEFINE_NVRAM = 4;
const BLOCK_RESIZE_BYTES = 1;
/** `virDomainSnapshotCreateFlags`: no metadata, disks only, into a file that is there, of all disks or of none. */
const SNAPSHOT_OF_DISKS = 4 | 16 | 32 | 128;
/** `virDomainBlockCommitFlags`: names of files below stay relative. */
const COMMIT_RELATIVE = 8;
const SHUTDOWN_ACPI = 1;
const SHUTDOWN_AGENT = 2;
const STATS_CPU = 2;
const STATS_BALLOON = 4;
const STATS_INTERFACE = 16;
const STATS_BLOCK = 32;
const EVENT_LIFECYCLE = 0;
const EVENT_REBOOT = 1;
const EVENT_JOB_COMPLETED = 21;

/** `virDomainMigrateFlags`. */
export const MIGRATE = {
  live: 1,
  peerToPeer: 2,
  persistDestination: 8,
  undefineSource: 16,
  unsafe: 512,
  abortOnError: 4096,
  autoConverge: 8192,
  tls: 65536,
} as const;

/** libvirt's handle of a domain. `id` is −1 while it does not run. */
export interface Domain {
  name: string;
  uuid: string;
  id: number;
}

/** Numbers of `virDomainState` and of the state's own reason. */
export interface RawState {
  state: number;
  reason: number;
}

export type DomainEvent =
  | { kind: 'lifecycle'; domain: Domain; event: number; detail: number }
  | { kind: 'jobCompleted'; domain: Domain; statistics: TypedParameters }
  | { kind: 'rebooted'; domain: Domain }
  /** libvirtd was gone: events may have been missed. */
  | { kind: 'reconnected' };

/** One connection's worth of libvirt. */
export interface LibvirtSession {
  version(): Promise<{ library: string; hypervisor: string }>;
  lookup(uuid: string): Promise<Domain | null>;
  lookupName(name: string): Promise<Domain | null>;
  listDomains(): Promise<Domain[]>;
  state(domain: Domain): Promise<RawState>;
  xml(domain: Domain, which: keyof typeof XML_FLAGS): Promise<string>;
  /** The element that Belay put into the definition, or null. */
  metadata(domain: Domain, namespace: string): Promise<string | null>;
  isPersistent(domain: Domain): Promise<boolean>;
  define(xml: string): Promise<Domain>;
  create(domain: Domain): Promise<void>;
  destroy(domain: Domain): Promise<void>;
  undefine(domain: Domain): Promise<void>;
  resume(domain: Domain): Promise<void>;
  reset(domain: Domain): Promise<void>;
  /** Both only ask the guest: through ACPI, or through its agent. */
  shutdown(domain: Domain, through: 'acpi' | 'agent'): Promise<void>;
  reboot(domain: Domain, through: 'acpi' | 'agent'): Promise<void>;
  attach(domain: Domain, xml: string, flags: number): Promise<void>;
  update(domain: Domain, xml: string, flags: number): Promise<void>;
  detach(domain: Domain, xml: string, flags: number): Promise<void>;
  blockResize(domain: Domain, disk: string, sizeBytes: bigint): Promise<void>;
  /** Each disk of the XML writes to its file from now on, which reads through to the one before. */
  snapshotDisks(domain: Domain, xml: string): Promise<void>;
  /** Begins to copy what lies in one file of a disk's chain into the one below it. Not the file that the guest writes to. */
  blockCommit(domain: Domain, disk: string, files: { top: string; base: string }): Promise<void>;
  /** How far work on a disk is; null when there is none. */
  blockJob(domain: Domain, disk: string): Promise<{ done: bigint; end: bigint } | null>;
  abortBlockJob(domain: Domain, disk: string): Promise<void>;
  /** What the guest sees. */
  blockCapacity(domain: Domain, disk: string): Promise<bigint>;
  setBlockIoTune(domain: Domain, disk: string, limits: TypedParameters, flags: number): Promise<void>;
  freeze(domain: Domain): Promise<number>;
  thaw(domain: Domain): Promise<number>;
  agentCommand(domain: Domain, command: object, timeoutSeconds: number): Promise<unknown>;
  statistics(): Promise<{ domain: Domain; parameters: TypedParameters }[]>;
  /** Blocks until the domain runs at the other host, or the job failed or was aborted. */
  migrate(domain: Domain, connectUri: string, parameters: TypedParameters, flags: number): Promise<void>;
  /** `type` 0 = no job, 3 = completed, 4 = failed, 5 = cancelled (`virDomainJobType`). */
  jobStatistics(domain: Domain): Promise<{ type: number; parameters: TypedParameters }>;
  abortJob(domain: Domain): Promise<void>;
  secretXml(uuid: string): Promise<string | null>;
  listSecrets(): Promise<{ uuid: string; usage: string }[]>;
  defineSecret(xml: string, value: Buffer): Promise<void>;
  undefineSecret(uuid: string): Promise<void>;
}

export interface Libvirt {
  readonly isConnected: boolean;
  /** The shared connection, made anew when libvirtd restarted. */
  session(): Promise<LibvirtSession>;
  /**
   * A connection of its own, for calls that block for long: libvirtd serves only five requests of one client at once
   * (`max_client_requests`), and a migration would hold one of them until its end.
   */
  withOwnSession<Result>(work: (session: LibvirtSession) => Promise<Result>): Promise<Result>;
  onEvent(listener: (event: DomainEvent) => void): () => void;
  close(): void;
}

const RECONNECT_MS = 500;

/** Connects in the background and stays connected; `session()` throws LibvirtUnavailable while libvirtd is away. */
export function openLibvirt(socketPath: string): Libvirt {
  const listeners = new Set<(event: DomainEvent) => void>();
  let shared: { connection: RpcConnection; session: LibvirtSession } | undefined;
  let connecting: Promise<LibvirtSession> | undefined;
  let wasConnected = false;
  let isClosed = false;
  let retry: NodeJS.Timeout | undefined;

  const tell = (event: DomainEvent) => {
    for (const listener of listeners) listener(event);
  };

  async function connect(): Promise<LibvirtSession> {
    const connection = await openConnection(socketPath, (procedure, payload) => {
      if (procedure === PROCEDURE.eventLifecycle) {
        payload.int(); // the callback's id
        tell({ kind: 'lifecycle', domain: readDomain(payload), event: payload.int(), detail: payload.int() });
      } else if (procedure === PROCEDURE.eventReboot) {
        payload.int();
        tell({ kind: 'rebooted', domain: readDomain(payload) });
      } else if (procedure === PROCEDURE.eventJobCompleted) {
        payload.int();
        tell({ kind: 'jobCompleted', domain: readDomain(payload), statistics: payload.typedParameters() });
      }
    });
    for (const event of [EVENT_LIFECYCLE, EVENT_REBOOT, EVENT_JOB_COMPLETED]) {
      await connection.call(PROCEDURE.eventRegister, xdrWriter().int(event).uint(0));
    }
    const session = sessionOver(connection);
    shared = { connection, session };
    void connection.closed.then(() => {
      if (shared?.connection === connection) shared = undefined;
      if (!isClosed) reconnectSoon();
    });
    if (wasConnected) tell({ kind: 'reconnected' });
    wasConnected = true;
    return session;
  }

  function connectOnce(): Promise<LibvirtSession> {
    connecting ??= connect().finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  function reconnectSoon() {
    clearTimeout(retry);
    retry = setTimeout(() => {
      if (!isClosed && !shared) connectOnce().catch(reconnectSoon);
    }, RECONNECT_MS);
    retry.unref();
  }

  connectOnce().catch(reconnectSoon);

  return {
    get isConnected() {
      return shared?.connection.isOpen ?? false;
    },
    session: async () => (shared?.connection.isOpen ? shared.session : connectOnce()),
    async withOwnSession(work) {
      const connection = await openConnection(socketPath, () => {});
      try {
        return await work(sessionOver(connection));
      } finally {
        connection.close();
      }
    },
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      isClosed = true;
      clearTimeout(retry);
      shared?.connection.close();
    },
  };
}

async function openConnection(socketPath: string, onEvent: (procedure: number, payload: XdrReader) => void) {
  const connection = await connectRpc(socketPath, onEvent);
  await connection.call(PROCEDURE.authList);
  await connection.call(PROCEDURE.connectOpen, xdrWriter().optionalString('qemu:///system').uint(0));
  return connection;
}

function readDomain(reader: XdrReader): Domain {
  return { name: reader.string(), uuid: reader.uuid(), id: reader.int() };
}

function writeDomain(domain: Domain): XdrWriter {
  return xdrWriter().string(domain.name).fixed(parseUuid(domain.uuid)).int(domain.id);
}

/** libvirt writes 9.0.0 as 9000000. */
function dotted(version: bigint): string {
  const number = Number(version);
  return `${Math.floor(number / 1_000_000)}.${Math.floor(number / 1_000) % 1_000}.${number % 1_000}`;
}

function unless<Value>(code: number): (error: unknown) => Value | null {
  return (error) => {
    if (error instanceof LibvirtError && error.code === code) return null;
    throw error;
  };
}

function sessionOver(connection: RpcConnection): LibvirtSession {
  const call = connection.call;
  const done = async (procedure: number, args: XdrWriter) => {
    await call(procedure, args);
  };

  async function readSecret(uuid: string) {
    const reader = await call(PROCEDURE.secretLookupByUuid, xdrWriter().fixed(parseUuid(uuid))).catch(
      unless<XdrReader>(LIBVIRT_CODE.noSecret),
    );
    return reader && readSecretHandle(reader);
  }

  return {
    async version() {
      const library = (await call(PROCEDURE.connectGetLibVersion)).hyper();
      const hypervisor = (await call(PROCEDURE.connectGetVersion)).hyper();
      return { library: dotted(library), hypervisor: dotted(hypervisor) };
    },
    async lookup(uuid) {
      const reader = await call(PROCEDURE.domainLookupByUuid, xdrWriter().fixed(parseUuid(uuid))).catch(
        unless<XdrReader>(LIBVIRT_CODE.noDomain),
      );
      return reader && readDomain(reader);
    },
    async lookupName(name) {
      const reader = await call(PROCEDURE.domainLookupByName, xdrWriter().string(name)).catch(
        unless<XdrReader>(LIBVIRT_CODE.noDomain),
      );
      return reader && readDomain(reader);
    },
    async listDomains() {
      const reader = await call(PROCEDURE.connectListAllDomains, xdrWriter().int(1).uint(0));
      return reader.array(() => readDomain(reader));
    },
    async state(domain) {
      const reader = await call(PROCEDURE.domainGetState, writeDomain(domain).uint(0));
      return { state: reader.int(), reason: reader.int() };
    },
    async xml(domain, which) {
      return (await call(PROCEDURE.domainGetXml, writeDomain(domain).uint(XML_FLAGS[which]))).string();
    },
    async metadata(domain, namespace) {
      const args = (flags: number) => writeDomain(domain).int(METADATA_ELEMENT).optionalString(namespace).uint(flags);
      const reader = await call(PROCEDURE.domainGetMetadata, args(0))
        .catch(unless<XdrReader>(LIBVIRT_CODE.noDomainMetadata))
        .then((live) => live ?? call(PROCEDURE.domainGetMetadata, args(METADATA_FROM_CONFIG)))
        .catch(unless<XdrReader>(LIBVIRT_CODE.noDomainMetadata));
      return reader?.string() ?? null;
    },
    isPersistent: async (domain) => (await call(PROCEDURE.domainIsPersistent, writeDomain(domain))).int() !== 0,
    define: async (xml) => readDomain(await call(PROCEDURE.domainDefine, xdrWriter().string(xml).uint(0))),
    create: (domain) => done(PROCEDURE.domainCreate, writeDomain(domain)),
    destroy: (domain) => done(PROCEDURE.domainDestroy, writeDomain(domain)),
    undefine: (domain) =>
      done(
        PROCEDURE.domainUndefine,
        writeDomain(domain).uint(UNDEFINE_MANAGED_SAVE | UNDEFINE_SNAPSHOTS_METADATA | UNDEFINE_NVRAM),
      ),
    resume: (domain) => done(PROCEDURE.domainResume, writeDomain(domain)),
    reset: (domain) => done(PROCEDURE.domainReset, writeDomain(domain).uint(0)),
    shutdown: (domain, through) =>
      done(PROCEDURE.domainShutdown, writeDomain(domain).uint(through === 'acpi' ? SHUTDOWN_ACPI : SHUTDOWN_AGENT)),
    reboot: (domain, through) =>
      done(PROCEDURE.domainReboot, writeDomain(domain).uint(through === 'acpi' ? SHUTDOWN_ACPI : SHUTDOWN_AGENT)),
    attach: (domain, xml, flags) => done(PROCEDURE.domainAttachDevice, writeDomain(domain).string(xml).uint(flags)),
    update: (domain, xml, flags) => done(PROCEDURE.domainUpdateDevice, writeDomain(domain).string(xml).uint(flags)),
    detach: (domain, xml, flags) => done(PROCEDURE.domainDetachDevice, writeDomain(domain).string(xml).uint(flags)),
    blockResize: (domain, disk, sizeBytes) =>
      done(PROCEDURE.domainBlockResize, writeDomain(domain).string(disk).hyper(sizeBytes).uint(BLOCK_RESIZE_BYTES)),
    snapshotDisks: (domain, xml) =>
      done(PROCEDURE.domainSnapshotCreate, writeDomain(domain).string(xml).uint(SNAPSHOT_OF_DISKS)),
    blockCommit: (domain, disk, { top, base }) =>
      done(
        PROCEDURE.domainBlockCommit,
        writeDomain(domain).string(disk).optionalString(base).optionalString(top).hyper(0n).uint(COMMIT_RELATIVE),
      ),
    async blockJob(domain, disk) {
      const reader = await call(PROCEDURE.domainGetBlockJobInfo, writeDomain(domain).string(disk).uint(0));
      if (reader.int() === 0) return null;
      reader.int(); // its type
      reader.hyper(); // its limit
      return { done: reader.hyper(), end: reader.hyper() };
    },
    abortBlockJob: (domain, disk) => done(PROCEDURE.domainBlockJobAbort, writeDomain(domain).string(disk).uint(0)),
    async blockCapacity(domain, disk) {
      const reader = await call(PROCEDURE.domainGetBlockInfo, writeDomain(domain).string(disk).uint(0));
      reader.hyper(); // allocation
      return reader.hyper();
    },
    setBlockIoTune: (domain, disk, limits, flags) =>
      done(PROCEDURE.domainSetBlockIoTune, writeDomain(domain).string(disk).typedParameters(limits).uint(flags)),
    freeze: async (domain) => (await call(PROCEDURE.domainFreeze, writeDomain(domain).uint(0).uint(0))).int(),
    thaw: async (domain) => (await call(PROCEDURE.domainThaw, writeDomain(domain).uint(0).uint(0))).int(),
    async agentCommand(domain, command, timeoutSeconds) {
      const args = writeDomain(domain).string(JSON.stringify(command)).int(timeoutSeconds).uint(0);
      const answer = (await call(QEMU_AGENT_COMMAND, args, QEMU_PROGRAM)).optionalString();
      return answer === null ? null : (JSON.parse(answer) as { return?: unknown }).return;
    },
    async statistics() {
      const which = STATS_CPU | STATS_BALLOON | STATS_INTERFACE | STATS_BLOCK;
      const reader = await call(PROCEDURE.connectGetAllDomainStats, xdrWriter().uint(0).uint(which).uint(0));
      return reader.array(() => ({ domain: readDomain(reader), parameters: reader.typedParameters() }));
    },
    migrate: (domain, connectUri, parameters, flags) =>
      done(
        PROCEDURE.domainMigratePerform,
        writeDomain(domain).optionalString(connectUri).typedParameters(parameters).opaque(Buffer.alloc(0)).uint(flags),
      ),
    async jobStatistics(domain) {
      const reader = await call(PROCEDURE.domainGetJobStats, writeDomain(domain).uint(0));
      return { type: reader.int(), parameters: reader.typedParameters() };
    },
    abortJob: (domain) => done(PROCEDURE.domainAbortJob, writeDomain(domain)),
    async secretXml(uuid) {
      const secret = await readSecret(uuid);
      return secret && (await call(PROCEDURE.secretGetXml, writeSecret(secret).uint(0))).string();
    },
    async listSecrets() {
      const reader = await call(PROCEDURE.connectListAllSecrets, xdrWriter().int(1).uint(0));
      return reader.array(() => readSecretHandle(reader)).map(({ uuid, usage }) => ({ uuid, usage }));
    },
    async defineSecret(xml, value) {
      const secret = readSecretHandle(await call(PROCEDURE.secretDefine, xdrWriter().string(xml).uint(0)));
      await done(PROCEDURE.secretSetValue, writeSecret(secret).opaque(value).uint(0));
    },
    async undefineSecret(uuid) {
      const secret = await readSecret(uuid);
      if (secret) await done(PROCEDURE.secretUndefine, writeSecret(secret));
    },
  };
}

interface SecretHandle {
  uuid: string;
  usageType: number;
  usage: string;
}

function readSecretHandle(reader: XdrReader): SecretHandle {
  return { uuid: reader.uuid(), usageType: reader.int(), usage: reader.string() };
}

function writeSecret(secret: SecretHandle): XdrWriter {
  return xdrWriter().fixed(parseUuid(secret.uuid)).int(secret.usageType).string(secret.usage);
}

/** True for the answer that there is no such domain (any more). */
export function isNoDomain(error: unknown): boolean {
  return error instanceof LibvirtError && error.code === LIBVIRT_CODE.noDomain;
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof LibvirtUnavailable;
}
