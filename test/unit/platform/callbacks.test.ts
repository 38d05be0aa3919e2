import { createServer, type Server } from 'node:http';
import { type AddressInfo, BlockList } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { innerIpv4, isDenied } from '../../../database/callbacks.ts';
import { declaredSettings } from '../../../model/platform/declaredSettings.ts';
import { post } from '../../../workers/callbacks.ts';

let server: Server;
let port: number;
let asked = 0;

beforeAll(async () => {
  server = createServer((request, response) => {
    asked += 1;
    if (request.url === '/moved') response.writeHead(302, { location: '/' });
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => server.close());

const none = new BlockList();
const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addSubnet('::', 127, 'ipv6');

test.each(['127.0.0.1', 'localhost', '127.1', '2130706433', '0x7f000001', '[::ffff:127.0.0.1]', '[::1]'])(
  'a callback to %s, which is in a denied network, never arrives',
  async (host) => {
    const before = asked;
    await expect(post(`http://${host}:${port}/`, {}, '{}', loopback)).rejects.toThrow('callbacks do not go to');
    expect(asked).toBe(before);
  },
);

test('a name is allowed by what it resolves to', async () => {
  await post(`http://localhost:${port}/`, {}, '{}', none);
});

test('a redirect is no delivery, and is not followed', async () => {
  const before = asked;
  await expect(post(`http://127.0.0.1:${port}/moved`, {}, '{}', none)).rejects.toThrow('302');
  expect(asked).toBe(before + 1);
});

const usual = new BlockList();
for (const cidr of (declaredSettings['callback.deniedNetworks']?.defaultValue ?? []) as string[]) {
  const [network = '', bits] = cidr.split('/');
  usual.addSubnet(network, Number(bits), network.includes(':') ? 'ipv6' : 'ipv4');
}

test.each([
  ['10.1.2.3', 'private'],
  ['172.31.0.1', 'private'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'shared'],
  ['127.0.0.1', 'loopback'],
  ['169.254.169.254', 'link-local'],
  ['224.0.0.1', 'multicast'],
  ['255.255.255.255', 'broadcast'],
  ['0.0.0.0', 'this host'],
  ['198.18.0.1', 'for benchmarks'],
  ['::', 'none'],
  ['::1', 'loopback'],
  ['fe80::1%eth0', 'link-local'],
  ['fec0::1', 'site-local'],
  ['fd00::1', 'private'],
  ['ff02::1', 'multicast'],
  ['::ffff:10.0.0.1', 'mapped, private'],
  ['::ffff:7f00:1', 'mapped, loopback'],
  ['::10.0.0.1', 'compatible, private'],
  ['64:ff9b::10.0.0.1', 'behind a translator, private'],
  ['64:ff9b::a9fe:a9fe', 'behind a translator, link-local'],
  ['64:ff9b:1::1', "behind the site's own translator"],
  ['2002:a00:1::1', '6to4, private'],
  ['2002:7f00:1::', '6to4, loopback'],
  ['2001:0:1:2:3:4:f5ff:fffe', 'Teredo, private'],
])('callbacks never go to %s (%s) unless those who run the platform allow it', (address) => {
  expect(isDenied(usual, address)).toBe(true);
});

test.each(['8.8.8.8', '100.128.0.1', '172.32.0.1', '2600::1', '64:ff9b::8.8.8.8', '2002:808:808::1', '::ffff:8.8.8.8'])(
  'callbacks go to %s',
  (address) => expect(isDenied(usual, address)).toBe(false),
);

test('an IPv6 address that stands for an IPv4 one counts as that', () => {
  expect(innerIpv4('2001:0:1:2:3:4:f5ff:fffe')).toBe('10.0.0.1');
  expect(innerIpv4('2002:c0a8:101::')).toBe('192.168.1.1');
  expect(innerIpv4('64:ff9b::c0a8:101')).toBe('192.168.1.1');
  expect(innerIpv4('2600::1')).toBeNull();
  const allowing = new BlockList();
  allowing.addSubnet('127.0.0.0', 8, 'ipv4');
  expect(isDenied(allowing, '64:ff9b::10.0.0.1')).toBe(false);
});
