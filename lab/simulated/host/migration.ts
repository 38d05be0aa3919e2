import type * as protocol from '../../../host-agent/protocol/migration.ts';
import type { Tasks } from '../../../host-agent/protocol.ts';
import { foreign } from '../ceph.ts';
import { pause } from '../faults.ts';
import { refuse } from '../problem.ts';
import { checkRunnable, findDomain, isActive, newDomain, occupy, statusOf, vacate } from './domainState.ts';
import { publish } from './events.ts';
import {
  type CallHandlers,
  type Domain,
  type Host,
  type Migration,
  nothing,
  type Run,
  type TaskHandlers,
} from './host.ts';

export const calls: CallHandlers<typeof protocol.calls> = {
  async 'domain.ensureNotMigrating'(host, { id }) {
    const migration = host.migrations.get(id);
    migration?.abort.abort();
    await migration?.ended.catch(() => {});
    return statusOf(host, id);
  },
  'domain.ensureGoesOn'(host, { id }) {
    const domain = findDomain(host, id);
    if (host.migrations.has(id) || domain.incoming) throw refuse('INVALID_STATE', `Domain ${id} is on its way`, true);
    if (domain.state === 'paused' && domain.reason === 'migration') {
      domain.state = 'running';
      domain.reason = 'unpaused';
      publish(host, 'domain.resumed', id, 'unpaused');
    }
    return nothing;
  },
};

export const tasks: TaskHandlers<typeof protocol.tasks> = {
  async 'domain.migrate'(host, input, { signal, progress }) {
    const migration = host.migrations.get(input.id) ?? beginMigration(host, input);
    migration.watchers.add(progress);
    const abort = () => migration.abort.abort();
    signal.addEventListener('abort', abort);
    try {
      return await migration.ended;
    } finally {
      migration.watchers.delete(progress);
      signal.removeEventListener('abort', abort);
    }
  },
};

function beginMigration(host: Host, input: Tasks['domain.migrate']['input']): Migration {
  const abort = new AbortController();
  const watchers: Migration['watchers'] = new Set();
  const progress = (percent: number) => {
    for (const watcher of watchers) watcher(percent);
  };
  const ended = migrate(host, input, { signal: abort.signal, progress }).finally(() =>
    host.migrations.delete(input.id),
  );
  const migration = { abort, watchers, ended };
  host.migrations.set(input.id, migration);
  return migration;
}

async function migrate(
  host: Host,
  { id, targetAddress, sharedPools = [] }: Tasks['domain.migrate']['input'],
  { signal, progress }: Run,
): Promise<Tasks['domain.migrate']['result']> {
  const target = host.world.findHostAt(targetAddress);
  if (target?.connection !== 'up') throw refuse('BACKEND_UNAVAILABLE', `No host answers at ${targetAddress}`, true);
  if (target === host) throw refuse('INVALID_ARGUMENT', `${targetAddress} is this host itself`);
  const domain = findDomain(host, id);
  const { live } = domain;
  if (!live) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
  for (const end of [host, target])
    if (!end.hypervisor) throw refuse('PRECONDITION_FAILED', `${end.name} has no certificate for migration`);
  const known = target.domains.get(id);
  if (known && known.spec.tags.id !== live.tags.id) throw foreign('domain', id, known.spec.tags);
  if (known && (known.incoming || isActive(known)))
    throw refuse('INVALID_STATE', `Domain ${id} is ${known.incoming ? 'arriving' : known.state} on ${target.name}`);
  checkRunnable(target, live);
  for (const { source, readOnly } of live.disks)
    if (source.type === 'file' && !readOnly && !sharedPools.includes(source.poolId))
      throw refuse('PRECONDITION_FAILED', 'Unsafe migration: Migration without shared storage is unsafe');

  const startedAt = Date.now();
  const back = target.leftLogs.get(id);
  const incoming = newDomain(domain.spec, {
    live,
    state: 'paused',
    reason: 'migration',
    incoming: true,
    // QEMU goes on at the end of a log that is there.
    ...(back ? { serial: back } : {}),
  });
  target.domains.set(id, incoming);
  occupy(target, live);
  // libvirt tells of the arriving QEMU as of any other; only `domain.resumed` means that the guest is here.
  publish(target, 'domain.started', id, 'migrated');
  const stepMs = host.world.settings.migrationMs / 10;
  domain.leaving = true;
  const giveUp = () => {
    domain.leaving = false;
    vacate(target, live);
    if (target.connection === 'up') publish(target, 'domain.crashed', id, 'crashed');
    if (target.domains.get(id) !== incoming) return;
    if (known) target.domains.set(id, known);
    else target.domains.delete(id);
  };
  for (let step = 1; step <= 10; step += 1) {
    await pause(stepMs, signal);
    const lost = whyLost(host, domain, target, incoming);
    if (signal.aborted || lost) {
      giveUp();
      throw lost ?? new Error('cancelled');
    }
    if (step < 10) progress(step * 10);
  }
  // The switch-over: from here the guest is the target's, and nothing is left on the source.
  vacate(host, live);
  clearTimeout(domain.bootTimer);
  host.domains.delete(id);
  host.leftLogs.set(id, domain.serial);
  target.leftLogs.delete(id);
  Object.assign(incoming, { state: 'running', reason: 'migrated', incoming: false, startedAt: domain.startedAt });
  host.world.running.set(id, target);
  publish(host, 'domain.stopped', id, 'migrated');
  publish(target, 'domain.resumed', id, 'migrated');
  return { downtimeMs: 20, totalMs: Date.now() - startedAt, transferredBytes: live.memoryMib * 2 ** 20 };
}

function whyLost(host: Host, domain: Domain, target: Host, incoming: Domain): Error | undefined {
  const { id } = domain.spec;
  if (!domain.live || host.domains.get(id) !== domain)
    return refuse('INVALID_STATE', `Domain ${id} ended on ${host.name} during its migration`);
  if (target.domains.get(id) !== incoming || target.connection !== 'up')
    return refuse('BACKEND_UNAVAILABLE', `${target.name} was lost during the migration`, true);
  return undefined;
}
