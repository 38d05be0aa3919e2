import { isIPv6 } from 'node:net';
import { Problem } from '../problem.ts';
import type { DomainStatus, Tasks } from '../protocol.ts';
import { type DomainContext, findOwn, requireOwn, statusOf } from './domains.ts';
import { parseDisks, withCephUsers } from './domainXml.ts';
import { PKI } from './hypervisor.ts';
import { type Domain, isNoDomain, LIBVIRT_CODE, LibvirtError, type LibvirtSession, MIGRATE } from './libvirt.ts';
import { exists } from './paths.ts';
import type { TaskContext } from './tasks.ts';
import { numberOf, type TypedParameters } from './xdr.ts';

type Input = Tasks['domain.migrate']['input'];
type Result = Tasks['domain.migrate']['result'];

const LOOK_MS = 250;
const STATISTICS_TIMEOUT_MS = 1_000;
/** Somewhat less than a caller waits for an answer. An aborted migration ends within a second. */
const REST_TIMEOUT_MS = 25_000;
const MIB = 2 ** 20;
/** `virDomainJobOperation`. */
const OPERATION_MIGRATION_OUT = 5;
const NO_JOB = 0;

/**
 * Moves a running domain to another host, memory only: its disks stay where they are, and both hosts reach them. libvirtd talks to libvirtd over TLS, and so does
 * QEMU to QEMU. Post-copy is never used: a cut would lose the guest.
 */
export async function migrate(context: DomainContext, input: Input, task: TaskContext): Promise<Result> {
  if (!(await exists(`${PKI}/clientcert.pem`))) {
    throw new Problem(
      'PRECONDITION_FAILED',
      'this host has no certificate for migrations: hypervisor.ensureConfigured comes first',
    );
  }
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, input.id);
  const status = await statusOf(session, input.id);
  const { state } = status;
  if (state !== 'running' && state !== 'paused') {
    throw new Problem('INVALID_STATE', `instance ${input.id} is ${state} on this host; only a running one moves live`);
  }

  const outcome = completedJob(context, input.id);
  const ended = new AbortController();
  const watching = watch(session, domain, task, ended.signal);
  try {
    // An agent that was restarted in the middle finds libvirt still at it, and only waits.
    if (await isMigrating(session, domain)) await untilGone(session, input.id, task.signal);
    // It would hold still at the target for good.
    else if (heldByMigration(status))
      throw new Problem('INVALID_STATE', `instance ${input.id} is held by an earlier migration, which has ended`);
    else await perform(context, domain, input, task);
    const statistics = await outcome.statistics();
    return {
      downtimeMs: numberOf(statistics, 'downtime'),
      totalMs: numberOf(statistics, 'time_elapsed'),
      transferredBytes: numberOf(statistics, 'data_processed'),
    };
  } finally {
    ended.abort();
    outcome.stop();
    await watching;
  }
}

/**
 * Aborts libvirt's own job, which outlives the agent that asked for it, and waits until there is none: only then it is decided on which host
 * the guest is. As long as libvirt does not tell, it is asked again; a guess here could cost the only guest.
 */
export async function ensureNotMigrating(context: DomainContext, id: string): Promise<DomainStatus> {
  for (const deadline = Date.now() + REST_TIMEOUT_MS; ; ) {
    const session = await context.libvirt.session();
    const found = await findOwn(session, id);
    if (!found) return { state: 'absent', reason: 'absent' };
    try {
      if (!(await isMigrating(session, found.domain))) return await statusOf(session, id);
      await session.abortJob(found.domain);
    } catch (error) {
      // In the moment of switch-over libvirt takes no question, and no abort; right after it, the domain is gone.
      if (!(error instanceof LibvirtError)) throw error;
    }
    if (Date.now() > deadline) throw new Problem('TIMEOUT', `the migration of ${id} does not come to rest`, true);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const heldByMigration = ({ state, reason }: DomainStatus): boolean => state === 'paused' && reason === 'migration';

/** Resumes what a migration that is none any more has left paused: libvirt itself does so only when it knows how that has ended. */
export async function ensureGoesOn(context: DomainContext, id: string): Promise<void> {
  const session = await context.libvirt.session();
  const domain = await requireOwn(session, id);
  if ((await session.jobStatistics(domain)).type !== NO_JOB)
    throw new Problem('INVALID_STATE', `instance ${id} is still on its way`, true);
  if (heldByMigration(await statusOf(session, id))) await session.resume(domain);
}

/** libvirt tells a finished job's figures by an event only, since the domain is gone; it may come just after the answer. */
function completedJob(context: DomainContext, id: string) {
  let tell: (statistics: TypedParameters) => void = () => {};
  const told = new Promise<TypedParameters>((resolve) => {
    tell = resolve;
  });
  const stop = context.libvirt.onEvent((event) => {
    if (event.kind === 'jobCompleted' && event.domain.uuid === id) tell(event.statistics);
  });
  return {
    stop,
    statistics() {
      setTimeout(() => tell(new Map()), STATISTICS_TIMEOUT_MS).unref();
      return told;
    },
  };
}

async function perform(context: DomainContext, domain: Domain, input: Input, task: TaskContext): Promise<void> {
  const { targetAddress, cephUsers, sharedPools = [], bandwidthBytesPerSec, autoConverge } = input;
  const target = isIPv6(targetAddress) ? `[${targetAddress}]` : targetAddress;
  const session = await context.libvirt.session();
  const [running, kept] = await Promise.all([session.xml(domain, 'movingNow'), session.xml(domain, 'movingConfig')]);
  const parameters: TypedParameters = new Map([
    ['migrate_uri', { type: 'string', value: `tcp://${target}` }],
    ['destination_xml', { type: 'string', value: definitionAt(running, cephUsers) }],
    ['persistent_xml', { type: 'string', value: definitionAt(kept, cephUsers) }],
  ]);
  if (bandwidthBytesPerSec !== null) {
    const mibPerSec = BigInt(Math.max(1, Math.round(bandwidthBytesPerSec / MIB)));
    parameters.set('bandwidth', { type: 'ullong', value: mibPerSec });
  }
  const flags =
    (isTranslated(running) ? 0 : MIGRATE.live) |
    MIGRATE.peerToPeer |
    MIGRATE.persistDestination |
    MIGRATE.undefineSource |
    MIGRATE.abortOnError |
    MIGRATE.tls |
    (autoConverge && !isTranslated(running) ? MIGRATE.autoConverge : 0) |
    ((await hasOnlySharedDisks(context, running, sharedPools)) ? MIGRATE.unsafe : 0);
  const uri = `qemu+tls://${target}/system?pkipath=${PKI}`;
  task.signal.throwIfAborted();
  try {
    await context.libvirt.withOwnSession((own) => own.migrate(domain, uri, parameters, flags));
  } catch (error) {
    task.signal.throwIfAborted();
    if (error instanceof LibvirtError && error.code === LIBVIRT_CODE.operationAborted) {
      throw new Problem('INVALID_STATE', `the migration of ${input.id} was aborted from outside; it runs on here`);
    }
    throw error;
  }
}

/**
 * Whether the guest's code is translated, because its host has no KVM. Such a guest holds still while its memory is copied: a page that it writes to just
 * when QEMU begins to watch that page anew may never count as written again, and the guest would go on elsewhere with an old one.
 */
const isTranslated = (xml: string): boolean => /^<domain\b[^>]*\btype=['"]qemu['"]/.test(xml);

/**
 * Whether the guest has files, and the target has all of them. libvirt lets a guest with files go only where it knows the file system for a shared
 * one: NFS, CephFS and some more, but neither a bind mount nor a name that is new to it. So it is told not to look (VIR_MIGRATE_UNSAFE), where it is
 * known better: whoever asked has made sure that the pool's mark is in the target's directory, and here it is in this one. The other thing that libvirt
 * would look at, a cache that the target does not see, no disk has (`diskXml`). Of a guest with any other disk libvirt decides, and refuses.
 */
async function hasOnlySharedDisks({ files }: DomainContext, xml: string, poolIds: string[]): Promise<boolean> {
  const roots = await Promise.all(poolIds.map((id) => files.directory(id)));
  const written = parseDisks(xml).filter((disk) => !/<readonly\s*\/>/.test(disk.xml));
  const ofType = (type: string) =>
    written.filter((disk) => new RegExp(`^<disk [^>]*\\btype=['"]${type}['"]`).test(disk.xml));
  const shared = ofType('file').filter(({ source }) => roots.some((root) => source.startsWith(`${root}/`)));
  return shared.length > 0 && shared.length + ofType('network').length === written.length;
}

/** The target's QEMU opens the disks with the target's rights. */
function definitionAt(xml: string, cephUsers: Input['cephUsers']): string {
  try {
    return withCephUsers(xml, cephUsers);
  } catch (error) {
    throw new Problem('INVALID_ARGUMENT', `domain.migrate: /cephUsers: ${(error as Error).message}`);
  }
}

async function isMigrating(session: LibvirtSession, domain: Domain): Promise<boolean> {
  const { type, parameters } = await session.jobStatistics(domain);
  return type !== NO_JOB && numberOf(parameters, 'operation') === OPERATION_MIGRATION_OUT;
}

async function untilGone(session: LibvirtSession, id: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const domain = await session.lookup(id);
    if (!domain) return;
    signal.throwIfAborted();
    if (!(await isMigrating(session, domain).catch(() => true))) {
      if (!(await session.lookup(id))) return;
      throw new Problem(
        'BACKEND_UNAVAILABLE',
        `the migration of ${id} failed while the agent was away; it runs on here`,
        true,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Tells the progress, and hands the caller's wish to cancel on to libvirt. */
async function watch(session: LibvirtSession, domain: Domain, task: TaskContext, ended: AbortSignal): Promise<void> {
  while (!ended.aborted) {
    try {
      if (task.signal.aborted) await session.abortJob(domain);
      const { parameters } = await session.jobStatistics(domain);
      const total = numberOf(parameters, 'memory_total');
      if (total > 0) task.progress(100 * (1 - numberOf(parameters, 'memory_remaining') / total));
    } catch (error) {
      // Gone, or in the moment of switch-over, when libvirt takes no question. Whether it came to pass, `perform` tells.
      if (!isNoDomain(error) && !(error instanceof LibvirtError)) return;
    }
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        for (const signal of [ended, task.signal]) signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, LOOK_MS);
      ended.addEventListener('abort', done, { once: true });
      // Only the first abort wakes early: after it, it is asked again four times a second until the job has ended.
      if (!task.signal.aborted) task.signal.addEventListener('abort', done, { once: true });
    });
  }
}
