/**
 * A BMC that speaks Redfish over HTTPS, for machines of the lab: as much of DMTF's schemas (ServiceRoot, ComputerSystem, ManagerAccount) as switching their
 * power takes, with the words and status codes of DSP0266. It asks for a password, as real ones do, and can be made to behave badly.
 */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import { issueAuthority } from '../runtime/certificate.ts';

/** A machine whose power it switches. Each call answers once it is so. */
export interface Machine {
  isOn(): boolean | Promise<boolean>;
  on(): void | Promise<void>;
  off(): void | Promise<void>;
}

/** What a BMC does instead of what it should. */
export const bmcMishaps = [
  'silent',
  'slow',
  'garbage',
  'huge',
  'redirect',
  'elsewhere',
  'broken',
  'deaf',
  'stubborn',
] as const;
export type BmcMishap = (typeof bmcMishaps)[number];

export interface RedfishOptions {
  /** Who may come in, by this password until it is changed. */
  isUser(name: string): boolean;
  password: string;
  /** By its name. */
  find(name: string): Machine | undefined;
  /** Those that its collection lists. */
  names(): string[];
  /** What is wrong with the BMC of a machine, or for a user. */
  mishapOf?(name: string): BmcMishap | undefined;
  /** Words for resets that it takes; all of them unless said. */
  resetTypes?: readonly string[];
}

export interface RedfishServer {
  server: https.Server;
  /** In PEM. */
  certificate: string;
  /** By which it lets a user in; clients may change their own. */
  passwordOf(user: string): string;
}

const allResetTypes = ['On', 'ForceOff', 'GracefulShutdown', 'ForceRestart', 'PowerCycle'];
const longestBody = 65_536;
/** Longer than anybody waits. */
const slowMs = 60_000;

interface Asked {
  user: string;
  method: string;
  path: string[];
  body: Record<string, unknown>;
}

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const isSame = (one: string, other: string): boolean =>
  Buffer.byteLength(one) === Buffer.byteLength(other) && timingSafeEqual(Buffer.from(one), Buffer.from(other));

async function read(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > longestBody) throw new Refusal(413, 'too long');
    parts.push(part);
  }
  return bytes === 0 ? {} : (JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>);
}

export async function createRedfish(options: RedfishOptions): Promise<RedfishServer> {
  const { isUser, find, names, mishapOf = () => undefined, resetTypes = allResetTypes } = options;
  const passwords = new Map<string, string>();
  const passwordOf = (user: string): string => passwords.get(user) ?? options.password;
  // As on most BMCs, it has signed its own certificate.
  const { certificate, key } = await issueAuthority('BMC of the lab');

  const link = (path: string) => ({ '@odata.id': `/redfish/v1/${path}` });
  const collection = (path: string, of: string, ids: string[]) => ({
    ...link(path),
    '@odata.type': `#${of}Collection.${of}Collection`,
    Name: `${of} collection`,
    'Members@odata.count': ids.length,
    Members: ids.map((id) => link(`${path}/${encodeURIComponent(id)}`)),
  });

  async function system(name: string, mishap: BmcMishap | undefined): Promise<Record<string, unknown>> {
    const machine = found(name);
    const path = `Systems/${encodeURIComponent(name)}`;
    const target = `/redfish/v1/${path}/Actions/ComputerSystem.Reset`;
    return {
      ...link(path),
      '@odata.type': '#ComputerSystem.v1_20_0.ComputerSystem',
      Id: name,
      Name: name,
      SystemType: 'Physical',
      PowerState: (await machine.isOn()) ? 'On' : 'Off',
      Actions: {
        '#ComputerSystem.Reset': {
          target: mishap === 'elsewhere' ? `https://elsewhere.invalid${target}` : target,
          'ResetType@Redfish.AllowableValues': resetTypes,
        },
      },
    };
  }

  function found(name: string): Machine {
    const machine = find(name);
    if (!machine) throw new Refusal(404, `there is no system ${name}`);
    return machine;
  }

  async function reset(name: string, type: unknown): Promise<void> {
    const machine = found(name);
    if (typeof type !== 'string' || !resetTypes.includes(type)) throw new Refusal(400, 'no such ResetType');
    const isOn = await machine.isOn();
    switch (type) {
      case 'On':
        if (!isOn) await machine.on();
        return;
      case 'ForceOff':
      case 'GracefulShutdown':
        if (isOn) await machine.off();
        return;
      default:
        if (!isOn) throw new Refusal(409, 'it is off');
        await machine.off();
        await machine.on();
    }
  }

  /** Null is an answer without a body. */
  async function answer({ user, method, path, body }: Asked, mishap: BmcMishap | undefined): Promise<unknown> {
    const [first, second, third, fourth] = path;
    const at = `${method} ${path.length}`;
    if (at === 'GET 0')
      return {
        ...link(''),
        RedfishVersion: '1.18.0',
        Systems: link('Systems'),
        AccountService: link('AccountService'),
      };
    if (first === 'Systems') {
      if (at === 'GET 1') return collection('Systems', 'ComputerSystem', names());
      if (at === 'GET 2') return system(second ?? '', mishap);
      if (at === 'POST 4' && third === 'Actions' && fourth === 'ComputerSystem.Reset') {
        if (mishap !== 'deaf') await reset(second ?? '', body.ResetType);
        return null;
      }
    }
    if (first === 'AccountService') {
      if (at === 'GET 1') return { ...link('AccountService'), Accounts: link('AccountService/Accounts') };
      if (at === 'GET 2' && second === 'Accounts')
        return collection('AccountService/Accounts', 'ManagerAccount', ['1', '2']);
      if (path.length === 3 && second === 'Accounts' && (third === '1' || third === '2')) {
        if (method === 'GET')
          return {
            ...link(`AccountService/Accounts/${third}`),
            Id: third,
            UserName: third === '2' ? user : 'root',
            Password: null,
          };
        if (method === 'PATCH' && mishap === 'stubborn') throw new Refusal(403, 'its password stays');
        if (method === 'PATCH' && third === '2' && typeof body.Password === 'string') {
          passwords.set(user, body.Password);
          return null;
        }
      }
    }
    throw new Refusal(404, 'there is nothing here');
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://bmc');
    const path = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
    if (path[0] !== 'redfish' || path[1] !== 'v1') throw new Refusal(404, 'this is no Redfish');
    const rest = path.slice(2);
    const given = Buffer.from(/^Basic (.*)$/.exec(request.headers.authorization ?? '')?.[1] ?? '', 'base64').toString();
    const [user = '', password = ''] = given.split(/:(.*)/s);
    const mishap = mishapOf(rest[0] === 'Systems' ? (rest[1] ?? '') : user);
    switch (mishap) {
      case 'silent':
        return;
      case 'slow':
        await new Promise((resolve) => setTimeout(resolve, slowMs).unref());
        break;
      case 'garbage':
        return void response.end('<html>Welcome</html>');
      case 'huge':
        return void response.end(JSON.stringify({ Members: 'x'.repeat(2_000_000) }));
      case 'redirect':
        return void response.writeHead(302, { location: 'https://elsewhere.invalid/' }).end();
      case 'broken':
        throw new Refusal(503, 'not now');
    }
    if (rest.length > 0 && !(isUser(user) && isSame(password, passwordOf(user)))) throw new Refusal(401, 'who are you');
    const said = await answer({ user, method: request.method ?? '', path: rest, body: await read(request) }, mishap);
    if (said === null) response.writeHead(204).end();
    else
      response.writeHead(200, { 'content-type': 'application/json', 'odata-version': '4.0' }).end(JSON.stringify(said));
  }

  const server = https.createServer({ cert: certificate, key }, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      const status = error instanceof Refusal ? error.status : 500;
      const message = error instanceof Error ? error.message : String(error);
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ error: { code: 'Base.1.18.GeneralError', message } }));
    });
  });
  return { server, certificate, passwordOf };
}
