import { createServer, type Server } from 'node:http';
import { type AddressInfo, BlockList } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
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
