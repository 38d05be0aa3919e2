/** How a process reaches PostgreSQL, as its URL says: libpq's keywords `sslmode`, `sslrootcert`, `sslcert` and `sslkey` are those of TLS. */
import type { ClientConfig } from 'pg';
import { type NamedFile, tlsReader } from './tls.ts';

const tlsKeywords = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey'] as const;

/**
 * Reads the URL, and answers what makes the configuration of each new connection: certificates are read again from their files. A
 * server is taken for what it says only when its certificate proves it (`verify-full`); nothing between that and no TLS is offered.
 *
 * @throws Error that names the keyword of the URL which is wrong, or whose file can not be used
 */
export function postgresConnection(url: string, complain?: (why: string) => void): () => ClientConfig {
  if (!URL.canParse(url)) return () => ({ connectionString: url });
  const plain = new URL(url);
  const { searchParams } = plain;
  const given = new Map(tlsKeywords.map((keyword) => [keyword, searchParams.get(keyword)]));
  if ([...given.values()].every((value) => value === null)) return () => ({ connectionString: url });
  for (const keyword of tlsKeywords) searchParams.delete(keyword);
  const connectionString = plain.href;
  const mode = given.get('sslmode');
  const file = (keyword: (typeof tlsKeywords)[number]): NamedFile | null => {
    const path = given.get(keyword);
    return path ? { setting: `${keyword} in DATABASE_URL`, path } : null;
  };
  const files = { ca: file('sslrootcert'), certificate: file('sslcert'), key: file('sslkey') };
  if (mode === 'disable') return () => ({ connectionString, ssl: false });
  if (mode !== 'verify-full')
    throw new Error(
      `sslmode in DATABASE_URL is ${mode ? `"${mode}"` : 'missing'}: verify-full is needed, which alone proves who the server is`,
    );
  const read = tlsReader(files, complain);
  return () => ({ connectionString, ssl: { ...read(), minVersion: 'TLSv1.2' } });
}
