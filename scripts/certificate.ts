/**
 * `node scripts/certificate.ts <directory> <name> [<host name or address> …]`: a certificate in `<directory>/<name>.pem` and
 * `<name>-key.pem`, signed by the authority in `<directory>/authority.pem`, which is made when there is none. It is for a server where it
 * has host names or addresses, else for a client; with `--both` it is for servers that speak to each other.
 * One that is there is renewed in the last third of its life, or with `--renew`; otherwise nothing happens, so that it may be run every day.
 */
import { parseArgs } from 'node:util';
import { ensureCertificate } from '../runtime/certificateFiles.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { renew: { type: 'boolean' }, both: { type: 'boolean' } },
});
const [directory, name, ...names] = positionals;
if (!directory || !name) {
  console.error('node scripts/certificate.ts <directory> <name> [<host name or address> …] [--both] [--renew]');
  process.exit(2);
}
try {
  const { certificate, made } = await ensureCertificate(directory, name, names, {
    renew: values.renew ?? false,
    ...(values.both ? { end: 'both' } : {}),
  });
  console.log(`${certificate} ${made ? 'is made' : 'is good'}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
