/**
 * `node scripts/host-authority.ts`: prints the certificate of the authority that signs the certificates of hosts, which it makes when there
 * is none. OVN's southbound database has to trust it, where hosts reach that over TLS.
 */
import { hostAuthority } from '../activities/platform/credentials.ts';
import { openDatabase } from '../database/database.ts';
import { config } from '../runtime/config.ts';

if (config.databaseUrl === '') {
  console.error('DATABASE_URL is not set; expected something like postgres://belay:…@db.example.net/belay');
  process.exit(2);
}
const database = openDatabase(config.databaseUrl, 1);
try {
  process.stdout.write((await hostAuthority(database)).certificate);
} finally {
  await database.close();
}
