/**
 * Redfish (DMTF DSP0266) over HTTPS. Nothing is told to a server before its certificate is found to be the one that is pinned; redirects are not
 * followed, and of what it names only paths below /redfish/v1/ on itself are asked for.
 */
import { createHash } from 'node:crypto';
import https from 'node:https';
import { isIP } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import tls from 'node:tls';
import type { PowerCommand } from '../../../model/platform/power.ts';
import {
  type Bmc,
  noRights,
  otherCertificate,
  type PowerDriver,
  refused,
  silent,
  wrongAnswer,
  wrongPassword,
} from './driver.ts';

/** A system with all its links is a few KiB. */
const mostBytes = 1_048_576;
/** Of the members of a collection so many are looked at. */
const mostMembers = 64;
/** Between two looks while the power goes off, where a BMC knows no power cycle. */
const lookMs = 1_000;

type Json = Record<string, unknown>;

const fingerprintOf = (socket: tls.TLSSocket): string | null => {
  const { raw } = socket.getPeerCertificate();
  return raw ? createHash('sha256').update(raw).digest('hex') : null;
};

/** Whoever made the certificate, it is the pinned one or not; a BMC has mostly signed its own. */
const connect = ({ address, port }: Bmc): tls.TLSSocket =>
  tls.connect({
    host: address,
    port,
    ...(isIP(address) ? {} : { servername: address }),
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
  });

const whyOf = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
};

class OtherCertificate extends Error {
  readonly found: string;
  constructor(found: string) {
    super('another certificate');
    this.found = found;
  }
}

/** Gives out connections to the pinned server alone. */
function pinned(bmc: Bmc): https.Agent {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 0 });
  Object.assign(agent, {
    createConnection(_: unknown, done: (error: Error | null, socket?: tls.TLSSocket) => void) {
      const socket = connect(bmc);
      const fail = (error: Error): void => done(error);
      socket.once('error', fail);
      socket.once('secureConnect', () => {
        socket.removeListener('error', fail);
        const found = fingerprintOf(socket) ?? 'none';
        if (found === bmc.certificate) return done(null, socket);
        socket.destroy();
        done(new OtherCertificate(found));
      });
    },
  });
  return agent;
}

interface Answer {
  status: number;
  etag: string | undefined;
  body: Json;
}

type Ask = (method: 'GET' | 'POST' | 'PATCH', path: string, body?: Json, etag?: string) => Promise<Answer>;

function exchange(bmc: Bmc, agent: https.Agent, signal: AbortSignal): Ask {
  return async (method, path, body, etag) => {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const { status, headers, text } = await new Promise<{
      status: number;
      headers: NodeJS.Dict<string | string[]>;
      text: string;
    }>((resolve, reject) => {
      const request = https.request(
        {
          host: bmc.address,
          port: bmc.port,
          method,
          path,
          agent,
          signal,
          auth: `${bmc.user}:${bmc.password}`,
          headers: {
            accept: 'application/json',
            'odata-version': '4.0',
            ...(sent === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(sent) }),
            ...(etag === undefined ? {} : { 'if-match': etag }),
          },
        },
        (response) => {
          const parts: Buffer[] = [];
          let bytes = 0;
          response.on('data', (part: Buffer) => {
            bytes += part.length;
            if (bytes > mostBytes) response.destroy(wrongAnswer(bmc, `more than ${mostBytes} bytes`));
            else parts.push(part);
          });
          response.on('error', reject);
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text: Buffer.concat(parts).toString(),
            }),
          );
        },
      );
      request.on('error', reject);
      request.end(sent);
    }).catch((error: unknown) => {
      if (error instanceof OtherCertificate) throw otherCertificate(bmc, error.found);
      if (signal.aborted) throw silent(bmc, 'no answer in time');
      if (error instanceof Error && error.name === 'Problem') throw error;
      throw silent(bmc, whyOf(error));
    });
    if (status === 401) throw wrongPassword(bmc);
    if (status === 403) throw noRights(bmc);
    if (status >= 300 && status < 400) throw wrongAnswer(bmc, 'a redirect, which is not followed');
    if (status >= 500) throw wrongAnswer(bmc, `HTTP ${status}`);
    if (status >= 400) throw refused(bmc, `HTTP ${status} to ${method} ${path}`);
    const shown = headers.etag;
    return {
      status,
      etag: typeof shown === 'string' ? shown : undefined,
      body: text.trim() === '' ? {} : parsed(bmc, text),
    };
  };
}

function parsed(bmc: Bmc, text: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrongAnswer(bmc, 'what it sends is not JSON');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw wrongAnswer(bmc, 'no object');
  return value as Json;
}

/** A place on this very server: nothing that names another one. */
function pathIn(bmc: Bmc, value: unknown): string {
  if (
    typeof value !== 'string' ||
    !/^\/redfish\/v1\/[A-Za-z0-9._~/#()'@%+-]*$/.test(value) ||
    /(^|\/)\.\.(\/|$)/.test(value)
  )
    throw wrongAnswer(bmc, 'a link that leads nowhere below /redfish/v1/');
  return value;
}

function membersOf(bmc: Bmc, { Members }: Json): string[] {
  if (!Array.isArray(Members)) throw wrongAnswer(bmc, 'a collection without members');
  return Members.slice(0, mostMembers).map((member: unknown) => pathIn(bmc, (member as Json | null)?.['@odata.id']));
}

/** One conversation over one connection. */
async function conversation<T>(bmc: Bmc, signal: AbortSignal, body: (ask: Ask) => Promise<T>): Promise<T> {
  const agent = pinned(bmc);
  try {
    return await body(exchange(bmc, agent, signal));
  } catch (error) {
    throw error instanceof Error && error.name === 'AbortError' ? silent(bmc, 'no answer in time') : error;
  } finally {
    agent.destroy();
  }
}

async function systemOf(bmc: Bmc, ask: Ask): Promise<{ path: string; system: Json }> {
  // Where a system of that name is, the specification says (DSP0266, 6.5.3: patterns of URIs).
  const named = bmc.system === null ? [] : [`/redfish/v1/Systems/${encodeURIComponent(bmc.system)}`];
  const [path, another] = bmc.system === null ? membersOf(bmc, (await ask('GET', '/redfish/v1/Systems')).body) : named;
  if (path === undefined) throw refused(bmc, 'it manages no system');
  if (another !== undefined) throw refused(bmc, 'it manages several systems: name one of them in bmc.system');
  return { path, system: (await ask('GET', path)).body };
}

/** Something that goes off is on until it is off. */
function stateOf(bmc: Bmc, { PowerState }: Json): 'on' | 'off' {
  if (PowerState === 'Off') return 'off';
  if (PowerState === 'On' || PowerState === 'PoweringOn' || PowerState === 'PoweringOff' || PowerState === 'Paused')
    return 'on';
  throw wrongAnswer(bmc, 'it does not say whether the power is on');
}

/** What a command is called (ResetType of the schema `Resource`), the best word first. */
const resetTypes = {
  on: ['On', 'ForceOn'],
  off: ['ForceOff'],
  cycle: ['PowerCycle'],
  reset: ['ForceRestart'],
  softOff: ['GracefulShutdown'],
} as const satisfies Record<PowerCommand, readonly string[]>;

async function reset(bmc: Bmc, ask: Ask, command: PowerCommand): Promise<boolean> {
  const { system } = await systemOf(bmc, ask);
  const actions = system.Actions as Json | undefined;
  const action = actions?.['#ComputerSystem.Reset'] as Json | undefined;
  if (!action) throw refused(bmc, 'its system can not be reset');
  const allowed = action['ResetType@Redfish.AllowableValues'];
  const type = resetTypes[command].find((name) => !Array.isArray(allowed) || allowed.includes(name));
  if (type === undefined) return false;
  await ask('POST', pathIn(bmc, action.target), { ResetType: type });
  return true;
}

export const redfish: PowerDriver = {
  certificate: (bmc, signal) =>
    new Promise((resolve, reject) => {
      const socket = connect(bmc);
      const stop = (): void => void socket.destroy(new Error('no answer in time'));
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
      socket.once('error', (error) => reject(silent(bmc, whyOf(error))));
      socket.once('close', () => signal.removeEventListener('abort', stop));
      socket.once('secureConnect', () => {
        const found = fingerprintOf(socket);
        socket.destroy();
        if (found === null) reject(wrongAnswer(bmc, 'it shows no certificate'));
        else resolve(found);
      });
    }),

  state: (bmc, signal) => conversation(bmc, signal, async (ask) => stateOf(bmc, (await systemOf(bmc, ask)).system)),

  command: (bmc, command, signal) =>
    conversation(bmc, signal, async (ask) => {
      if (await reset(bmc, ask, command)) return;
      if (command !== 'cycle') throw refused(bmc, `its system does not know ${resetTypes[command].join(' or ')}`);
      // Where there is no word for it, it is done in two.
      if (stateOf(bmc, (await systemOf(bmc, ask)).system) === 'on') await reset(bmc, ask, 'off');
      while (stateOf(bmc, (await systemOf(bmc, ask)).system) === 'on') await setTimeout(lookMs, undefined, { signal });
      await reset(bmc, ask, 'on');
    }),

  changePassword: (bmc, password, signal) =>
    conversation(bmc, signal, async (ask) => {
      for (const path of membersOf(bmc, (await ask('GET', '/redfish/v1/AccountService/Accounts')).body)) {
        const { body, etag } = await ask('GET', path);
        if (body.UserName !== bmc.user) continue;
        await ask('PATCH', path, { Password: password }, etag);
        return;
      }
      throw refused(bmc, `it lists no account ${bmc.user}`);
    }),
};
