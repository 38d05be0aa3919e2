import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diagramOf } from '../../../cli/diagram.ts';
import { type Api, belay, problem, startApi, succeeded } from './api.ts';

const zone = '11111111-1111-4111-8111-111111111111';

let api: Api;

beforeEach(async () => {
  api = await startApi();
  api.add('zones', { id: zone, name: 'north' });
  api.script = [succeeded()];
});

afterEach(() => api.close());

const create = 'vpcs create --name shop --zone-id north --cidrs 10.0.0.0/16'.split(' ');
const posted = () =>
  api.requests.flatMap(({ method, path, body }) => (method === 'POST' ? [[path, body] as const] : []));

describe('tiers of a VPC', () => {
  it('are a network with a subnet each, made one after the other once the VPC is there', async () => {
    api.script = Array.from({ length: 5 }, () => succeeded());
    const { code, err } = await belay(api, [...create, '--tiers', 'web=10.0.1.0/24, app=10.0.2.0/24']);
    expect(code).toBe(0);
    const [{ id: vpcId } = { id: '' }] = api.rows.get('vpcs') ?? [];
    const [web, app] = api.rows.get('networks') ?? [];
    expect(posted()).toMatchObject([
      ['/v1/vpcs', { name: 'shop', cidrs: ['10.0.0.0/16'] }],
      ['/v1/networks', { name: 'web', vpcId, zoneId: zone }],
      ['/v1/subnets', { name: 'web', networkId: web?.id, cidr: '10.0.1.0/24' }],
      ['/v1/networks', { name: 'app', vpcId, zoneId: zone }],
      ['/v1/subnets', { name: 'app', networkId: app?.id, cidr: '10.0.2.0/24' }],
    ]);
    expect(err).toContain('network app with 10.0.2.0/24 is there');
    expect(api.faults).toEqual([]);
  });

  it('that can not be read are refused before anything is made', async () => {
    for (const tiers of ['web', 'web=all', '=10.0.1.0/24', 'web=10.0.1.0/24,web=10.0.2.0/24', ''])
      expect((await belay(api, [...create, '--tiers', tiers])).code, tiers).toBe(2);
    expect((await belay(api, [...create, '--tiers', 'web=10.0.1.0/24', '--dry-run'])).code).toBe(2);
    expect(posted()).toEqual([]);
  });

  it('one that is refused is told, with those that are missing then', async () => {
    api.script = Array.from({ length: 4 }, () => succeeded());
    api.handle('POST /v1/subnets', ({ body }) =>
      (body as { name: string }).name === 'app' ? problem(422, 'INVALID_ARGUMENT', 'it crosses another') : undefined,
    );
    const tiers = 'web=10.0.1.0/24,app=10.0.1.0/25,data=10.0.3.0/24';
    const { code, err } = await belay(api, [...create, '--tiers', tiers]);
    expect(code).toBe(1);
    expect(err).toContain('not made: app, data; the VPC stays');
    expect(err).toContain('it crosses another');
  });
});

describe('the picture of a VPC', () => {
  const plain = (_: unknown, text: string): string => text;
  const id = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
  type Topology = Parameters<typeof diagramOf>[0];
  const node = (kind: string, n: number, name: string | null, more: object = {}): Topology['nodes'][number] => ({
    kind: kind as 'vpc',
    id: id(n),
    name,
    state: 'ready',
    addresses: [],
    detail: null,
    ...more,
  });
  const edge = (from: number, as: Topology['edges'][number]['as'], to: number) => ({ from: id(from), as, to: id(to) });

  it('shows the way out, the tiers, what is in them, and what leads there', () => {
    const graph: Topology = {
      nodes: [
        node('vpc', 1, 'shop', { addresses: ['10.0.0.0/16'] }),
        node('network', 2, 'internet'),
        node('network', 3, 'web'),
        node('network', 4, 'app'),
        node('subnet', 5, 'web-4', { addresses: ['10.0.1.0/24'] }),
        node('subnet', 6, 'app-4', { addresses: ['10.0.2.0/24'] }),
        node('networkInterface', 7, null, { addresses: ['10.0.1.5'] }),
        node('networkInterface', 8, null, { addresses: ['10.0.1.6', '10.0.1.7'] }),
        node('networkInterface', 9, 'spare', { addresses: ['10.0.2.5'] }),
        node('instance', 10, 'web-10', { state: 'stopped' }),
        node('instance', 11, 'web-2', { state: 'running' }),
        node('floatingIp', 12, null, { addresses: ['203.0.113.30'] }),
        node('floatingIp', 13, 'mail', { addresses: ['203.0.113.31'] }),
        node('portForward', 14, null, { detail: 'tcp 25 → 2525' }),
      ],
      edges: [
        edge(1, 'wayOut', 2),
        edge(1, 'holds', 3),
        edge(1, 'holds', 4),
        edge(3, 'holds', 5),
        edge(4, 'holds', 6),
        edge(5, 'holds', 7),
        edge(5, 'holds', 8),
        edge(6, 'holds', 9),
        edge(7, 'partOf', 10),
        edge(8, 'partOf', 11),
        edge(2, 'holds', 12),
        edge(12, 'leadsTo', 7),
        edge(13, 'holds', 14),
        edge(14, 'leadsTo', 8),
      ],
      complete: true,
    };
    expect(diagramOf(graph, plain)).toBe(`internet  outside
│
shop  VPC  10.0.0.0/16
├─ app  network
│  └─ app-4  subnet  10.0.2.0/24
│     └─ spare  attached to nothing  10.0.2.5
└─ web  network
   └─ web-4  subnet  10.0.1.0/24
      ├─ web-2  10.0.1.6  10.0.1.7  ← 203.0.113.31 tcp 25 → 2525
      └─ web-10  stopped  10.0.1.5  ← 203.0.113.30
`);
    expect(diagramOf({ ...graph, complete: false }, plain)).toContain('… and more than is told at once');
  });
});
