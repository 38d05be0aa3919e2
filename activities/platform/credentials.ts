/**
 * What the platform proves itself with: one SSH key pair for all hosts, and an authority whose certificates let hosts migrate
 * guests to each other. Made on first need, kept as secrets, never told.
 */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import ssh2 from 'ssh2';
import { type Database, run, transaction } from '../../database/database.ts';
import { platformOwner } from '../../database/installation.ts';
import { type Owner, readSecret, writeSecret } from '../../database/secrets.ts';
import { type Issued, issueAuthority, issueCertificate } from '../../runtime/certificate.ts';

/** The secrets of an owner under these fields, made all at once by whoever comes first. */
async function keep<Field extends string>(
  database: Database,
  owner: Owner,
  fields: readonly Field[],
  make: () => Promise<Record<Field, string>>,
): Promise<Record<Field, string>> {
  const read = async (): Promise<Record<Field, string> | null> => {
    const values = await Promise.all(fields.map((field) => readSecret(database, owner, field)));
    if (values.includes(null)) return null;
    return Object.fromEntries(fields.map((field, index) => [field, values[index]])) as Record<Field, string>;
  };
  const known = await read();
  if (known) return known;
  const made = await make();
  const won = await transaction(database, async (tx) => {
    await run(tx, 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [
      `${owner.kind}/${owner.id}/${fields.join()}`,
    ]);
    const [first] = await run(tx, 'SELECT 1 FROM "secret" WHERE "ownerKind" = $1 AND "ownerId" = $2 AND field = $3', [
      owner.kind,
      owner.id,
      fields[0],
    ]);
    if (first) return false;
    for (const field of fields) await writeSecret(tx, owner, field, made[field]);
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
    platformOwner,
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

const authorityName = 'Belay migration';

async function migrationAuthority(database: Database): Promise<Issued> {
  const { migrationCaCertificate, migrationCaKey } = await keep(
    database,
    platformOwner,
    ['migrationCaCertificate', 'migrationCaKey'],
    async () => {
      const { certificate, key } = await issueAuthority(authorityName);
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
  const names = isIP(address) || isHostname(address) ? [hostId, address] : [hostId];
  const { migrationCertificate: certificate, migrationKey } = await keep(
    database,
    { kind: 'host', id: hostId },
    ['migrationCertificate', 'migrationKey'],
    async () => {
      const made = await issueCertificate(hostId, names, authority);
      return { migrationCertificate: made.certificate, migrationKey: made.key };
    },
  );
  return { caCertificate: authority.certificate, certificate, privateKey: migrationKey };
}
