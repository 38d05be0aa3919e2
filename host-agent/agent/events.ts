import type { HostEvent } from '../protocol.ts';
import { domainStatus, type LifecycleChange, lifecycleChange } from './domainState.ts';
import type { Libvirt } from './libvirt.ts';

/** The stream of what guests and libvirt do by themselves. */
export interface EventSource {
  /** First a `hello` with the state of every domain, then each event; another `hello` whenever events may have been missed. */
  subscribe(listener: (event: HostEvent) => void): Promise<() => void>;
}

export function eventSource(libvirt: Libvirt, bootId: string): EventSource {
  const listeners = new Set<(event: HostEvent) => void>();
  let sequence = 0;

  const stamp = (event: Omit<HostEvent, 'bootId' | 'sequence' | 'at'>): HostEvent => ({
    bootId,
    sequence,
    at: new Date().toISOString(),
    ...event,
  });

  function tell(event: Omit<HostEvent, 'bootId' | 'sequence' | 'at'>) {
    sequence += 1;
    const stamped = stamp(event);
    for (const listener of listeners) listener(stamped);
  }

  async function everyDomain(): Promise<NonNullable<HostEvent['domains']>> {
    const session = await libvirt.session();
    const domains = await session.listDomains();
    const states = await Promise.all(
      domains.map(async (domain) => {
        const raw = await session.state(domain).catch(() => undefined); // it has gone meanwhile
        return raw ? [{ id: domain.uuid, ...domainStatus(raw) }] : [];
      }),
    );
    return states.flat();
  }

  /** Domains that came by migration and do not run here yet. One that ends before it ever ran has not crashed. */
  const incoming = new Set<string>();

  function tellChange(domainId: string, change: LifecycleChange) {
    const neverRan = incoming.has(domainId) && change.type !== 'domain.started';
    if (change.type === 'domain.started' && change.reason === 'migrated') incoming.add(domainId);
    else incoming.delete(domainId);
    if (neverRan && change.type === 'domain.crashed')
      tell({ type: 'domain.stopped', reason: 'migration failed', domainId });
    else tell({ ...change, domainId });
  }

  libvirt.onEvent((event) => {
    if (event.kind === 'lifecycle') {
      const change = lifecycleChange(event.event, event.detail);
      if (change) tellChange(event.domain.uuid, change);
    } else if (event.kind === 'reconnected') {
      everyDomain().then(
        (domains) => tell({ type: 'hello', domains }),
        () => {}, // libvirtd went again; the next reconnection tells
      );
    }
  });

  return {
    async subscribe(listener) {
      // Events that come while the states are read are kept back, so that the hello is first and nothing is lost.
      const early: HostEvent[] = [];
      let deliver = (event: HostEvent) => {
        early.push(event);
      };
      const gate = (event: HostEvent) => deliver(event);
      listeners.add(gate);
      try {
        const hello = stamp({ type: 'hello', domains: [] });
        listener({ ...hello, domains: await everyDomain() });
        for (const event of early) listener(event);
        deliver = listener;
      } catch (error) {
        listeners.delete(gate);
        throw error;
      }
      return () => listeners.delete(gate);
    },
  };
}
