import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { choosePorts, freePorts, type Ports } from '../../../lab/ports.ts';
import { freePort } from '../../../postgres/owned-process.ts';

const servers: Server[] = [];
const listenOn = (port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    servers.push(server);
    server.listen({ host: '127.0.0.1', port }, resolve);
  });
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

const silent = (): void => {};
const settings: Record<keyof Ports, string> = {
  postgres: 'BELAY_POSTGRES_PORT',
  temporal: 'BELAY_TEMPORAL_PORT',
  temporalMetrics: 'BELAY_TEMPORAL_METRICS_PORT',
  temporalUi: 'BELAY_TEMPORAL_UI_PORT',
  temporalInternal: 'BELAY_TEMPORAL_INTERNAL_PORT',
  api: 'BELAY_API_PORT',
  controlMetrics: 'BELAY_CONTROL_METRICS_PORT',
  hostMetrics: 'BELAY_HOST_METRICS_PORT',
  dispatcherMetrics: 'BELAY_DISPATCHER_METRICS_PORT',
};
const names = Object.keys(settings) as (keyof Ports)[];

describe('ports of a control plane on one machine', () => {
  it('every port can be asked for by its variable', async () => {
    const chosen = async (): Promise<[Ports, Ports]> => {
      const free = await freePorts();
      const environment = Object.fromEntries(names.map((name) => [settings[name], String(free[name])]));
      return [await choosePorts(environment, silent), free];
    };
    let last: unknown;
    // Another program may take one between the two.
    for (let tries = 0; tries < 10; tries++) {
      try {
        const [ports, free] = await chosen();
        return expect(ports).toEqual(free);
      } catch (error) {
        if (!(error instanceof Error) || !/ is in use on /.test(error.message)) throw error;
        last = error;
      }
    }
    throw last;
  });

  it('a usual port that is in use is replaced by a free one, and that is told', async () => {
    const usual = await choosePorts({}, silent);
    // Others may hold it already: then it was not the answer.
    await listenOn(usual.api);
    const lines: string[] = [];
    const chosen = await choosePorts({}, (line) => lines.push(line));
    expect(chosen.api).not.toBe(usual.api);
    expect(lines.join('\n')).toContain(`${chosen.api} (BELAY_API_PORT chooses another)`);
    await listenOn(chosen.api);
  });

  it('the seven of Temporal are replaced when any of them is in use', async () => {
    const usual = await choosePorts({}, silent);
    await listenOn(usual.temporalInternal + 6);
    const { temporalInternal } = await choosePorts({}, silent);
    expect(temporalInternal + 6).toBeLessThanOrEqual(32_767);
    for (let port = temporalInternal; port < temporalInternal + 7; port++) await listenOn(port);
  });

  it('one that was asked for and is in use is refused by its variable', async () => {
    const port = await freePort();
    await listenOn(port);
    await expect(choosePorts({ BELAY_TEMPORAL_UI_PORT: String(port) }, silent)).rejects.toThrow(
      `port ${port} for Temporal's web page is in use on 127.0.0.1; free it or choose another with BELAY_TEMPORAL_UI_PORT`,
    );
  });

  it.each(['32762', '40000', '65530', '0', '-1', '1.5', 'x'])('Temporal’s own parts can not begin at %s', (text) =>
    expect(choosePorts({ BELAY_TEMPORAL_INTERNAL_PORT: text }, silent)).rejects.toThrow(
      `BELAY_TEMPORAL_INTERNAL_PORT must be the first of 7 ports in a row, none above 32767, found "${text}"`,
    ),
  );

  it.each(names.filter((name) => name !== 'temporalInternal'))(
    '%s is no port beyond 65535, and none that is no number',
    async (name) => {
      for (const text of ['65536', '0', 'http', '80.5'])
        await expect(choosePorts({ [settings[name]]: text }, silent)).rejects.toThrow(
          `${settings[name]} must be a port from 1 to 65535, found "${text}"`,
        );
    },
  );

  it('two variables can not ask for one port', async () => {
    const { api } = await freePorts();
    const environment = { BELAY_API_PORT: String(api), BELAY_TEMPORAL_INTERNAL_PORT: String(api - 3) };
    await expect(choosePorts(environment, silent)).rejects.toThrow(`both ask for port ${api}`);
  });
});
