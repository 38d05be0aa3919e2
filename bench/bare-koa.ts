/** What a read is measured against: the same framework with one route that answers a constant, and nothing else. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Router from '@koa/router';
import Koa from 'koa';

process.once('message', ({ body }: { body: string }) => {
  const app = new Koa();
  const router = new Router();
  router.get('/v1/instances/:id', (ctx) => {
    ctx.type = 'application/json';
    ctx.body = body;
  });
  app.use(router.routes());
  const server = createServer(app.callback());
  server.listen(0, '127.0.0.1', () => process.send?.({ result: { port: (server.address() as AddressInfo).port } }));
});
