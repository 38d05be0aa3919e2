/** What befalls simulated hosts, and the way to it from outside: `/_sim/…` of their port. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { HostEvent, HostInventory } from '../../host-agent/protocol.ts';
import { readJson } from '../../host-agent/requests.ts';
import { type BmcMishap, bmcMishaps } from '../redfish.ts';
import type { Faults, Rule } from './faults.ts';
import { calls } from './host/calls.ts';
import {
  type DomainRecord,
  findDomain,
  forget,
  isActive,
  newDomain,
  occupy,
  recordOf,
  vacate,
  watch,
} from './host/domainState.ts';
import { hello } from './host/events.ts';
import { inventory } from './host/facts.ts';
import { type Domain, type Host, type HostWorld, renewAgent } from './host/host.ts';
import { crash, halt } from './host/power.ts';
import type { Message } from './host/server.ts';
import { refuse } from './problem.ts';

export interface HostRecord extends Pick<HostInventory, 'ports' | 'secrets' | 'files' | 'tasks' | 'mappings'> {
  domains: Record<string, DomainRecord>;
  chassis: string | null;
}

/** Of all hosts; `user` and `system` are the host's name. */
export interface SimulatedBmc {
  bmc: { protocol: 'redfish'; address: string; port: number };
  bmcPassword: string;
}

/** What the admin path can do to the world; the in-process simulator offers the same. */
export interface Admin {
  crashHost(name: string): void;
  /** `quietly` drops what is sent and breaks no connection: what has come in already stays where it is held up. */
  partitionHost(name: string, quietly?: boolean): void;
  /** Cuts it from other hosts, from storage, or both, and from nothing else; what runs there runs on. */
  cutHost(name: string, from: ('peers' | 'storage' | 'hypervisor')[]): void;
  /** It hangs: its kernel takes connections, and nobody answers in them. */
  freezeHost(name: string): void;
  /** By its BMC, or by a switch. */
  powerHost(name: string, on: boolean): void;
  /** What is wrong with its BMC; undefined when nothing is. */
  setBmc(name: string, mishap: BmcMishap | undefined): void;
  /** Whatever was wrong with it; one that is off is switched on. */
  healHost(name: string): void;
  /** Crashes it for good: its disk is lost too. */
  scrapHost(name: string): void;
  /** It answers under another name from now on; under the old one nobody does. */
  moveHost(name: string, to: string): void;
  /** It is in the storage network at another address from now on, and so are its guests. */
  readdress(name: string, ip: string): void;
  /** A program on it, of which nobody knows, opens the image of a volume, or closes it again. */
  openVolume(name: string, volumeId: string, open: boolean): void;
  /** Somebody lets it in again at the storage, by hand. */
  letIn(name: string): void;
  /** It is configured as another one is that was added, under an id of its own, as if it had been added like that. */
  joinLike(name: string, like: string, id: string): void;
  restartAgent(name: string): void;
  guestPowerOff(name: string, domainId: string): void;
  guestCrash(name: string, domainId: string): void;
  /** Tells those who follow the host's events something, true or not: such as what was so before, and is told late. */
  tellEvent(name: string, event: Pick<HostEvent, 'type' | 'domainId' | 'domains' | 'reason'>): void;
  /** A guest comes to be that nobody asked for: like another, without disks and ports of its own. */
  plantGuest(name: string, domainId: string, like: string): void;
  /** A guest vanishes, and nobody is told. */
  dropGuest(name: string, domainId: string): void;
  /** What somebody does at the host itself, past the agent's rules of whose turn it is. */
  byHand(name: string, call: string, input: unknown): unknown;
  /** Where the BMCs of all hosts are: each is the system of its host's name. */
  bmc: SimulatedBmc;
  writeToImage(pool: string, image: string, content: string): void;
  inventory(): unknown;
}

/** What does not need the rest of the world. */
export interface Mishaps extends Omit<Admin, 'writeToImage' | 'inventory' | 'bmc'> {
  /** By host name; hosts that hold nothing are left out. */
  record(): Record<string, HostRecord>;
}

/** `cutAll` ends every connection to a host without an answer. */
export function createMishaps(world: HostWorld, cutAll: (host: Host) => void): Mishaps {
  function declared(name: string): Host {
    const host = world.findHost(name);
    if (!host) throw refuse('NOT_FOUND', `No host ${name} was declared`);
    return host;
  }

  function crashHost(name: string): void {
    const host = declared(name);
    host.connection = 'crashed';
    cutAll(host);
    crash(host);
  }

  function partitionHost(name: string, quietly = false): void {
    const host = declared(name);
    if (host.connection === 'up') host.connection = 'partitioned';
    if (!quietly) cutAll(host);
  }

  function cutHost(name: string, from: ('peers' | 'storage' | 'hypervisor')[]): void {
    const host = declared(name);
    for (const what of from) host.cutFrom.add(what);
    if (from.includes('storage')) host.storageCutAt = performance.now();
  }

  function readdress(name: string, ip: string): void {
    const host = declared(name);
    host.ip = ip;
    for (const { live } of host.domains.values())
      for (const disk of live?.disks ?? []) watch(host, live?.id ?? '', disk);
  }

  function openVolume(name: string, volumeId: string, open: boolean): void {
    const host = declared(name);
    const images = [...world.ceph.pools.values()].flatMap((pool) => pool.images.get(`volume-${volumeId}`) ?? []);
    for (const { watchers } of images)
      if (open) watchers.set(`${name}/unknown`, `${host.ip}:0/1`);
      else watchers.delete(`${name}/unknown`);
  }

  function letIn(name: string): void {
    world.ceph.letIn(declared(name).ip);
  }

  function freezeHost(name: string): void {
    declared(name).connection = 'frozen';
  }

  function powerHost(name: string, on: boolean): void {
    const host = declared(name);
    if (host.isPowered === on) return;
    if (on) {
      healHost(name);
      host.machineLife = randomUUID();
    } else crashHost(name);
    host.isPowered = on;
  }

  function setBmc(name: string, mishap: BmcMishap | undefined): void {
    declared(name).bmcMishap = mishap;
  }

  function healHost(name: string): void {
    const host = declared(name);
    host.isPowered = true;
    // What it has taken meanwhile it has forgotten.
    if (host.connection === 'frozen') cutAll(host);
    host.connection = 'up';
    host.cutFrom.clear();
    host.storageCutAt = null;
    world.network.chassisJoined(host);
  }

  function scrapHost(name: string): void {
    crashHost(name);
    const host = declared(name);
    for (const domain of [...host.domains.values()]) forget(host, domain);
    // Its chassis in OVN is removed by whoever deletes it.
    Object.assign(host, { hypervisor: null, switch: null, heartbeat: null });
    host.clusters.clear();
    host.mappings.clear();
    // Its disks go with it.
    for (const [id, { place }] of world.filePools) if (place.startsWith(`${name}:`)) world.filePools.delete(id);
  }

  function moveHost(name: string, to: string): void {
    const host = declared(name);
    cutAll(host);
    world.hosts.set(to, host);
    world.hosts.delete(name);
    declared(name).connection = 'crashed';
  }

  function joinLike(name: string, like: string, id: string): void {
    const host = declared(name);
    const model = declared(like);
    const { kvm, hypervisor, switch: network, heartbeat } = model;
    if (!network) throw refuse('INVALID_STATE', `${like} was never added`);
    const own = JSON.stringify({ hypervisor, switch: network, heartbeat })
      .replaceAll(network.systemId, id)
      .replaceAll(`"${model.ip}"`, `"${host.ip}"`);
    Object.assign(host, JSON.parse(own), { kvm });
    // The storage takes it under the user of the other one.
    host.clusters = new Map(model.clusters);
    host.filePools = new Set(model.filePools);
    host.mappings = new Map(model.mappings);
    world.heartbeats.set(id, host);
    world.network.chassisJoined(host);
  }

  function restartAgent(name: string): void {
    const host = declared(name);
    cutAll(host);
    renewAgent(host);
  }

  function activeDomain(host: Host, id: string): Domain {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    return domain;
  }

  function guestPowerOff(name: string, domainId: string): void {
    const host = declared(name);
    halt(host, activeDomain(host, domainId), 'off', 'shutdown');
  }

  function guestCrash(name: string, domainId: string): void {
    const host = declared(name);
    halt(host, activeDomain(host, domainId), 'crashed', 'crashed');
  }

  function plantGuest(name: string, domainId: string, like: string): void {
    const model = [...world.hosts.values()].find((host) => host.domains.has(like));
    if (!model) throw refuse('NOT_FOUND', `No host has a domain ${like}`);
    const known = findDomain(model, like).spec;
    const spec = { ...known, id: domainId, tags: { ...known.tags, id: domainId }, disks: [], interfaces: [] };
    const host = declared(name);
    host.domains.set(domainId, newDomain(spec, { live: spec, state: 'running', reason: 'booted' }));
    occupy(host, spec);
  }

  function dropGuest(name: string, domainId: string): void {
    const host = declared(name);
    const domain = findDomain(host, domainId);
    if (domain.live) vacate(host, domain.live);
    if (world.running.get(domainId) === host) world.running.delete(domainId);
    forget(host, domain);
  }

  function byHand(name: string, call: string, input: unknown): unknown {
    if (!Object.hasOwn(calls, call)) throw refuse('NOT_SUPPORTED', `There is no call ${call}`);
    return (calls as Record<string, (host: Host, input: unknown) => unknown>)[call]?.(declared(name), input);
  }

  function tellEvent(name: string, event: Pick<HostEvent, 'type' | 'domainId' | 'domains' | 'reason'>): void {
    const host = declared(name);
    for (const listener of host.listeners) listener({ ...hello(host), ...event });
  }

  function record(): Record<string, HostRecord> {
    const records: Record<string, HostRecord> = {};
    const sorted = [...world.hosts.values()].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    for (const host of sorted) {
      const { ports, mappings = [], secrets, files, tasks: running } = inventory(host);
      const domains = recordOf(host);
      const chassis = host.switch?.systemId ?? null;
      if (Object.keys(domains).length + secrets.length + files.length + running.length === 0 && chassis === null)
        continue;
      records[host.name] = {
        domains,
        ports,
        secrets,
        files,
        tasks: running,
        chassis,
        ...(mappings.length > 0 ? { mappings } : {}),
      };
    }
    return records;
  }

  return {
    crashHost,
    partitionHost,
    cutHost,
    freezeHost,
    readdress,
    openVolume,
    letIn,
    powerHost,
    setBmc,
    healHost,
    scrapHost,
    moveHost,
    joinLike,
    restartAgent,
    guestPowerOff,
    guestCrash,
    tellEvent,
    plantGuest,
    dropGuest,
    byHand,
    record,
  };
}

/** Answers what is asked under `/_sim/…`. */
export function adminRoutes(
  world: HostWorld,
  faults: Faults,
  admin: () => Admin & { messages(): Message[] },
): (request: IncomingMessage, path: string[]) => Promise<unknown> {
  /** On which hosts each domain runs now: of many hosts this is soon told, and the inventory is not. */
  function running(): Record<string, string[]> {
    const found: Record<string, string[]> = {};
    for (const host of world.hosts.values())
      for (const [id, { state }] of host.domains)
        if (state === 'running') found[id] = [...(found[id] ?? []), host.name];
    return found;
  }

  async function serve(request: IncomingMessage, path: string[]): Promise<unknown> {
    const body = (await readJson(request)) as Record<string, unknown>;
    const word = (field: string) => String(body[field] ?? '');
    const [first = '', second = '', third = ''] = path;
    switch (`${request.method} ${first}`) {
      case 'GET inventory':
        return admin().inventory();
      case 'GET running':
        return running();
      case 'GET messages':
        return admin().messages();
      case 'GET bmc':
        return admin().bmc;
      case 'GET rules':
        return faults.list();
      case 'POST rules':
        return { id: faults.add(checkRule(body)) };
      case 'DELETE rules':
        if (second === '') faults.clear();
        else faults.remove(second);
        return {};
      case 'PUT latency':
        faults.setLatency(word('call') || '*', Number(body.ms));
        return {};
      case 'PUT migration':
        world.settings.migrationMs = Number(body.ms);
        return {};
      case 'PUT shutDown':
        world.settings.shutDownMs = Number(body.ms);
        return {};
      case 'POST ceph':
        admin().writeToImage(word('pool'), word('image'), word('content'));
        return {};
      case 'POST hosts':
        switch (third) {
          case 'crash':
            admin().crashHost(second);
            return {};
          case 'partition':
            admin().partitionHost(second, body.quietly === true);
            return {};
          case 'cut':
            admin().cutHost(second, body.from as ('peers' | 'storage' | 'hypervisor')[]);
            return {};
          case 'freeze':
            admin().freezeHost(second);
            return {};
          case 'power':
            admin().powerHost(second, body.on === true);
            return {};
          case 'bmc':
            admin().setBmc(
              second,
              bmcMishaps.find((mishap) => mishap === body.mishap),
            );
            return {};
          case 'heal':
            admin().healHost(second);
            return {};
          case 'scrap':
            admin().scrapHost(second);
            return {};
          case 'move':
            admin().moveHost(second, word('to'));
            return {};
          case 'readdress':
            admin().readdress(second, word('ip'));
            return {};
          case 'openVolume':
            admin().openVolume(second, word('volumeId'), body.open === true);
            return {};
          case 'letIn':
            admin().letIn(second);
            return {};
          case 'joinLike':
            admin().joinLike(second, word('like'), word('id'));
            return {};
          case 'restartAgent':
            admin().restartAgent(second);
            return {};
          case 'guestPowerOff':
            admin().guestPowerOff(second, word('domainId'));
            return {};
          case 'guestCrash':
            admin().guestCrash(second, word('domainId'));
            return {};
          case 'plantGuest':
            admin().plantGuest(second, word('domainId'), word('like'));
            return {};
          case 'dropGuest':
            admin().dropGuest(second, word('domainId'));
            return {};
          case 'byHand':
            return admin().byHand(second, word('call'), body.input);
          case 'tellEvent':
            admin().tellEvent(second, body as unknown as HostEvent);
            return {};
        }
    }
    throw refuse('NOT_SUPPORTED', `Unknown path ${request.method} /_sim/${path.join('/')}`);
  }

  return serve;
}

function checkRule(body: Record<string, unknown>): Rule {
  const { when, action } = body;
  if (when !== 'before' && when !== 'after') throw refuse('INVALID_ARGUMENT', '`when` is before or after');
  if (action !== 'fail' && action !== 'hang' && action !== 'delay' && action !== 'drop')
    throw refuse('INVALID_ARGUMENT', '`action` is fail, hang, delay or drop');
  return { ...body, when, action };
}
