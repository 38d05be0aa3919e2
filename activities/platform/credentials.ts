/**
 * What the platform proves itself with: one SSH key pair for all hosts, and an authority whose certificates let hosts migrate
 * guests to each other. Made on first need, kept as secrets, never told.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ssh2 from 'ssh2';
import { type Database, run, transaction } from '../../database/database.ts';
import { wellKnown } from '../../database/installation.ts';
import { readSecret, writeSecret } from '../../database/secrets.ts';

const tenYearsDays = '3650';

/** The secrets of an owner under these fields, made all at once by whoever comes first. */
async function keep<Field extends string>(
  database: Database,
  ownerId: string,
  fields: readonly Field[],
  make: () => Promise<Record<Field, string>>,
): Promise<Record<Field, string>> {
  const read = async (): Promise<Record<Field, string> | null> => {
    const values = await Promise.all(fields.map((field) => readSecret(database, ownerId, field)));
    if (values.includes(null)) return null;
    return Object.fromEntries(fields.map((field, index) => [field, values[index]])) as Record<Field, string>;
  };
  const known = await read();
  if (known) return known;
  const made = await make();
  const won = await transaction(database, async (tx) => {
    await run(tx, 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`${ownerId}/${fields.join()}`]);
    const [first] = await run(tx, 'SELECT 1 FROM "secret" WHERE "ownerId" = $1 AND field = $2', [ownerId, fields[0]]);
    if (first) return false;
    for (const field of fields) await writeSecret(tx, ownerId, field, made[field]);
    return true;
  });
  return won ? made : ((await read()) ?? made);
}

export interface SshKey {
  /** OpenSSH's formats: what ssh2 reads, and one line for authorized_keys. */
  privateKey: string;
  publicKey: string;
  /** Tells the lines of this installation in authorized_keys from those of another. */
  comment: string;
}

/** The key that all hosts know the platform by (ed25519). */
export async function platformSshKey(database: Database): Promise<SshKey> {
  const { sshPrivateKey, sshPublicKey } = await keep(
    database,
    wellKnown.platform,
    ['sshPrivateKey', 'sshPublicKey'],
    async () => {
      const pair = ssh2.utils.generateKeyPairSync('ed25519');
      return { sshPrivateKey: pair.private, sshPublicKey: pair.public.trim() };
    },
  );
  const digest = createHash('sha256').update(sshPublicKey).digest('hex');
  return { privateKey: sshPrivateKey, publicKey: sshPublicKey, comment: `belay-${digest.slice(0, 16)}` };
}

export const isHostname = (text: string): boolean => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(text);

const openssl = promisify(execFile);

/** A self-signed certificate, or one signed by `authority`, with a new P-256 key. Node can not issue certificates itself. */
async function issue(
  commonName: string,
  extensions: string[],
  authority?: { certificate: string; key: string },
): Promise<{ certificate: string; key: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'belay-certificate-'));
  try {
    const path = (name: string): string => join(folder, name);
    const settings = ['[req]', 'distinguished_name=dn', 'prompt=no', 'x509_extensions=extensions', '[dn]'];
    const configuration = [...settings, `CN=${commonName}`, '[extensions]', ...extensions, ''].join('\n');
    await writeFile(path('openssl.cnf'), configuration);
    if (authority) {
      await writeFile(path('ca.pem'), authority.certificate);
      await writeFile(path('ca-key.pem'), authority.key, { mode: 0o600 });
    }
    await openssl('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', tenYearsDays],
      ...['-config', path('openssl.cnf'), '-keyout', path('key.pem'), '-out', path('certificate.pem')],
      ...(authority ? ['-CA', path('ca.pem'), '-CAkey', path('ca-key.pem')] : []),
    ]);
    const [certificate, key] = await Promise.all([
      readFile(path('certificate.pem'), 'utf8'),
      readFile(path('key.pem'), 'utf8'),
    ]);
    return { certificate, key };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function migrationAuthority(database: Database): Promise<{ certificate: string; key: string }> {
  const { migrationCaCertificate, migrationCaKey } = await keep(
    database,
    wellKnown.platform,
    ['migrationCaCertificate', 'migrationCaKey'],
    async () => {
      const extensions = [
        'basicConstraints=critical,CA:TRUE',
        'keyUsage=critical,keyCertSign',
        'subjectKeyIdentifier=hash',
      ];
      const { certificate, key } = await issue('Belay migration', extensions);
      return { migrationCaCertificate: certificate, migrationCaKey: key };
    },
  );
  return { certificate: migrationCaCertificate, key: migrationCaKey };
}

export interface MigrationCertificate {
  caCertificate: string;
  certificate: string;
  privateKey: string;
}

/**
 * A host's certificate for migration, valid for its id and its address. The same one every time, so that a reconnect does not
 * restart libvirtd. It goes with the host's other secrets.
 */
export async function migrationCertificate(
  database: Database,
  hostId: string,
  address: string,
): Promise<MigrationCertificate> {
  const authority = await migrationAuthority(database);
  // libvirt as a client wants the very address of its URI among the names. The address of a simulated host is no name.
  const kind = isIP(address) ? 'IP' : isHostname(address) ? 'DNS' : null;
  const named = kind ? `,${kind}:${address}` : '';
  const { migrationCertificate: certificate, migrationKey } = await keep(
    database,
    hostId,
    ['migrationCertificate', 'migrationKey'],
    async () => {
      // GnuTLS refuses an ECDSA certificate for libvirtd without keyEncipherment.
      const made = await issue(
        hostId,
        [
          'basicConstraints=critical,CA:FALSE',
          'keyUsage=critical,digitalSignature,keyEncipherment',
          'extendedKeyUsage=serverAuth,clientAuth',
          `subjectAltName=DNS:${hostId}${named}`,
        ],
        authority,
      );
      return { migrationCertificate: made.certificate, migrationKey: made.key };
    },
  );
  return { caCertificate: authority.certificate, certificate, privateKey: migrationKey };
}
