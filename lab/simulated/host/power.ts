import type * as protocol from '../../../host-agent/protocol/power.ts';
import { pause } from '../faults.ts';
import { refuse } from '../problem.ts';
import { checkElsewhere, checkRunnable, findDomain, forget, isActive, occupy, vacate } from './domainState.ts';
import { publish } from './events.ts';
import { type CallHandlers, type Domain, type Host, nothing, renewAgent, type TaskHandlers } from './host.ts';
import { print } from './serial.ts';

export function boot(host: Host, domain: Domain): void {
  clearTimeout(domain.bootTimer);
  domain.bootTimer = setTimeout(
    () => print(domain, `Booting ${domain.spec.hostname}\r\nREADY ${domain.spec.hostname}\r\n`),
    host.world.settings.bootMs,
  );
}

function start(host: Host, domain: Domain): void {
  const { spec } = domain;
  checkElsewhere(host, spec.id);
  checkRunnable(host, spec);
  occupy(host, spec);
  host.world.running.set(spec.id, host);
  domain.live = spec;
  domain.state = 'running';
  domain.reason = 'booted';
  domain.startedAt = Date.now();
  boot(host, domain);
  publish(host, 'domain.started', spec.id, 'booted');
}

/** The guest is no more; its definition stays. */
export function halt(host: Host, domain: Domain, state: 'off' | 'crashed', reason: string): void {
  clearTimeout(domain.bootTimer);
  if (domain.live) vacate(host, domain.live);
  if (host.world.running.get(domain.spec.id) === host) host.world.running.delete(domain.spec.id);
  domain.live = null;
  domain.frozen = false;
  domain.state = state;
  domain.reason = reason;
  publish(host, state === 'crashed' ? 'domain.crashed' : 'domain.stopped', domain.spec.id, reason);
}

/** Everything that ran is gone; what was defined stays, and nothing starts by itself. */
export function crash(host: Host): void {
  for (const domain of [...host.domains.values()]) {
    if (domain.incoming) host.domains.delete(domain.spec.id);
    else if (isActive(domain)) halt(host, domain, 'off', 'unknown');
  }
  renewAgent(host);
}

export const calls: CallHandlers<typeof protocol.calls> = {
  'domain.ensureRunning'(host, { id }) {
    const domain = findDomain(host, id);
    if (domain.state === 'paused') {
      domain.state = 'running';
      domain.reason = 'unpaused';
      publish(host, 'domain.resumed', id, 'unpaused');
    } else if (domain.state !== 'running') start(host, domain);
    return nothing;
  },
  'domain.ensureOff'(host, { id }) {
    const domain = host.domains.get(id);
    if (domain?.incoming) forget(host, domain);
    else if (domain && isActive(domain)) halt(host, domain, 'off', 'destroyed');
    return nothing;
  },
  'domain.reset'(host, { id }) {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    boot(host, domain);
    return nothing;
  },
};

export const tasks: TaskHandlers<typeof protocol.tasks> = {
  async 'domain.shutDown'(host, { id, timeoutSeconds }, { signal }) {
    if (!host.domains.has(id)) return {};
    const domain = findDomain(host, id);
    if (!isActive(domain)) return {};
    const { shutDownMs } = host.world.settings;
    await pause(Math.min(shutDownMs, timeoutSeconds * 1000), signal);
    signal.throwIfAborted();
    if (shutDownMs > timeoutSeconds * 1000)
      throw refuse('TIMEOUT', `Domain ${id} did not shut down in ${timeoutSeconds} s`);
    if (isActive(domain)) halt(host, domain, 'off', 'shutdown');
    return {};
  },

  async 'domain.reboot'(host, { id, timeoutSeconds }, { signal }) {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    const { shutDownMs } = host.world.settings;
    await pause(Math.min(shutDownMs, timeoutSeconds * 1000), signal);
    signal.throwIfAborted();
    if (shutDownMs > timeoutSeconds * 1000)
      throw refuse('TIMEOUT', `Domain ${id} did not reboot in ${timeoutSeconds} s`);
    if (isActive(domain)) boot(host, domain);
    return {};
  },
};
