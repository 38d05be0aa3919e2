/** The API server process. Stateless: any number may run over one database. */

import { joinControlPlane } from '../database/controlNodes.ts';
import { listenTo } from '../database/database.ts';
import { hostConnections } from '../database/hosts.ts';
import { ensureInstallation } from '../database/installation.ts';
import { migrate } from '../prisma/migrate.ts';
import { config } from '../runtime/config.ts';
import { log } from '../runtime/log.ts';
import { shrinkAtRest } from '../runtime/memory.ts';
import { openTemporal } from '../temporal/connection.ts';
import { authenticator } from './authenticate.ts';
import { openDatabases } from './databases.ts';
import { buildServer, countRequests } from './server.ts';
import { endings } from './waits.ts';

await migrate(config.databaseUrl);
const databases = openDatabases(config.databaseUrl);
const { database } = databases;
await ensureInstallation(database);
const auth = authenticator(database);
const node = joinControlPlane(database, log, { role: 'api', address: `${config.apiHost}:${config.apiPort}` });
const server = buildServer({ ...databases, node, temporal: openTemporal(), authenticator: auth, log });
let stopping = false;

/** Rights that another server changed take effect here at once, too; and whoever waits for an operation hears of its end. */
async function followNews(): Promise<void> {
  while (!stopping) {
    const client = database.connection();
    try {
      await client.connect();
      await listenTo(client, 'belay_rights');
      await listenTo(client, endings.channel);
      // What changed while nobody listened.
      auth.forget();
      endings.told();
      client.on('notification', ({ channel }) => (channel === endings.channel ? endings.told() : auth.forget()));
      await new Promise<void>((resolve) => client.once('end', resolve).once('error', () => resolve()));
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    } finally {
      auth.forget();
      endings.missed();
      await client.end().catch(() => {});
    }
  }
}
void followNews();

/** It is drained when nobody asks it anything any more, beside whether it is ready. */
async function drain(): Promise<void> {
  while (!stopping) {
    const changed = node.changed();
    if (node.isDraining() && openRequests() === 0) await node.drained();
    await Promise.race([changed, new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
  }
}
const openRequests = countRequests(server);
void drain();
shrinkAtRest();

server.listen(config.apiPort, config.apiHost, () =>
  log.info({ address: `http://${config.apiHost}:${config.apiPort}` }, 'API ready'),
);
server.on('error', (error: NodeJS.ErrnoException) => {
  log.fatal(
    error.code === 'EADDRINUSE' ? `port ${config.apiPort} is in use; set BELAY_API_PORT to another` : error.message,
  );
  process.exit(1);
});

/** Answers what has begun, takes nothing new; streams are cut after a grace time. */
const end = async (): Promise<void> => {
  if (stopping) return;
  stopping = true;
  await node.leave();
  server.close();
  server.closeIdleConnections();
  const grace = setTimeout(() => server.closeAllConnections(), 5_000);
  await new Promise((resolve) => server.once('close', resolve));
  clearTimeout(grace);
  await hostConnections(database).closeAll();
  await Promise.all(Object.values(databases).map((one) => one.close()));
  process.exit(0);
};
process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());
