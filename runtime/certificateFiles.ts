/**
 * Certificates in a directory, with the authority that signs them: `authority.pem` and, for each name, `<name>.pem`, with their keys in
 * `…-key.pem`. For what lies outside of the platform's records: OVN's databases, PostgreSQL, Temporal, and their clients.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type End, endsSoon, type Issued, issueAuthority, issueCertificate, standsFor } from './certificate.ts';

export interface CertificateFiles {
  /** The authority's own certificate: what the other side has to trust. */
  ca: string;
  certificate: string;
  key: string;
}

const filesOf = (directory: string, name: string): CertificateFiles => ({
  ca: join(directory, 'authority.pem'),
  certificate: join(directory, `${name}.pem`),
  key: join(directory, `${name}-key.pem`),
});

/** Each file is the old one or the new one, never a part of it. */
function write(path: string, content: string, mode: number): void {
  const part = `${path}.part`;
  rmSync(part, { force: true });
  writeFileSync(part, content, { mode });
  // Whatever the umask is.
  chmodSync(part, mode);
  renameSync(part, path);
}

/** The key comes first: who finds a certificate finds its key. Readers wait until the two belong together. */
function writeIssued({ certificate, key }: CertificateFiles, issued: Issued): void {
  write(key, issued.key, 0o600);
  write(certificate, issued.certificate, 0o644);
}

const read = ({ certificate, key }: CertificateFiles): Issued | null =>
  existsSync(certificate) && existsSync(key)
    ? { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') }
    : null;

/** The directory's authority, made when there is none. */
async function ensureAuthority(directory: string, commonName: string): Promise<Issued> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = filesOf(directory, 'authority');
  const known = read(files);
  if (known) return known;
  if (existsSync(files.certificate))
    throw new Error(`${files.key} is missing although there is an authority; restore it, or remove ${directory}`);
  const made = await issueAuthority(commonName);
  writeIssued(files, made);
  return made;
}

/**
 * Ensures a certificate of the directory's authority for a common name: a server's, valid for these host names and IP addresses, or, without
 * any, a client's. One that is there stays, unless it is in the last third of its life, or `renew` is set.
 */
export async function ensureCertificate(
  directory: string,
  commonName: string,
  names: string[],
  {
    renew = false,
    authorityName = 'Belay',
    end = names.length > 0 ? 'server' : 'client',
  }: { renew?: boolean; authorityName?: string; end?: End } = {},
): Promise<CertificateFiles & { made: boolean }> {
  if (!/^[a-z0-9][a-z0-9.-]*$/i.test(commonName) || commonName === 'authority')
    throw new Error(`"${commonName}" can not name a certificate: it is the name of its file, too`);
  const authority = await ensureAuthority(directory, authorityName);
  const files = filesOf(directory, commonName);
  const known = read(files);
  const subjects = names.length > 0 ? names : [commonName];
  const made = renew || !known || endsSoon(known.certificate) || !standsFor(known.certificate, subjects);
  if (made) writeIssued(files, await issueCertificate(commonName, subjects, authority, { end }));
  return { ...files, made };
}
