import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../../database/database.ts';
import { ensureDatabase, type RunningPostgres, startPostgres } from '../../postgres/embedded.ts';
import { freePort } from '../../postgres/owned-process.ts';
import { migrate } from '../../prisma/migrate.ts';
import { endsSoon, issueAuthority, issueCertificate, standsFor } from '../../runtime/certificate.ts';
import { ensureCertificate } from '../../runtime/certificateFiles.ts';
import { postgresConnection } from '../../runtime/postgresConnection.ts';
import { type TlsFiles, tlsReader } from '../../runtime/tls.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'belay-wires-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const filesOf = ({ ca, certificate, key }: { ca: string; certificate: string; key: string }): TlsFiles => ({
  ca: { setting: 'THE_CA', path: ca },
  certificate: { setting: 'THE_CERTIFICATE', path: certificate },
  key: { setting: 'THE_KEY', path: key },
});

describe('certificates in files', () => {
  it('stay as long as they are good, and are made anew for other names, when asked, and in the last third of their life', async () => {
    const directory = join(dir, 'files');
    const first = await ensureCertificate(directory, 'db', ['db', '10.0.0.5']);
    expect(first.made).toBe(true);
    const text = readFileSync(first.certificate, 'utf8');
    expect((await ensureCertificate(directory, 'db', ['db', '10.0.0.5'])).made).toBe(false);
    expect(readFileSync(first.certificate, 'utf8')).toBe(text);
    expect(standsFor(text, ['db', '10.0.0.5'])).toBe(true);
    expect(standsFor(text, ['db', '10.0.0.6'])).toBe(false);
    expect((await ensureCertificate(directory, 'db', ['db', '10.0.0.6'])).made).toBe(true);
    expect((await ensureCertificate(directory, 'db', ['db', '10.0.0.6'], { renew: true })).made).toBe(true);
    const authority = await issueAuthority('test');
    const { certificate } = await issueCertificate('short', ['short'], authority, { days: 9 });
    const inDays = (days: number): number => Date.now() + days * 86_400_000;
    expect(endsSoon(certificate, inDays(5))).toBe(false);
    expect(endsSoon(certificate, inDays(7))).toBe(true);
  });

  it('are refused by the name of their setting when they are missing, open to others, no certificate, or no pair', async () => {
    const directory = join(dir, 'refused');
    const good = await ensureCertificate(directory, 'good', ['good']);
    const other = await ensureCertificate(directory, 'other', ['other']);
    const nothing = join(directory, 'nothing');
    writeFileSync(nothing, 'nothing');
    const open = join(directory, 'open-key.pem');
    writeFileSync(open, readFileSync(good.key));
    chmodSync(open, 0o644);
    const reading = (files: Partial<Record<keyof typeof good, string>>) => () =>
      tlsReader(filesOf({ ...good, ...files } as typeof good));
    expect(reading({ ca: '/absent/ca.pem' })).toThrow('THE_CA: /absent/ca.pem does not exist');
    expect(reading({ certificate: '/absent.pem' })).toThrow('THE_CERTIFICATE: /absent.pem does not exist');
    expect(reading({ ca: nothing })).toThrow(`THE_CA: ${nothing} holds no certificate in PEM`);
    expect(reading({ key: open })).toThrow(`THE_KEY: ${open} may be read or written by others (mode 0644)`);
    expect(reading({ key: other.key })).toThrow(
      `THE_KEY: ${other.key} is not the key of the certificate in ${good.certificate}`,
    );
    expect(() => tlsReader({ ...filesOf(good), key: null })).toThrow('THE_CERTIFICATE: ');
    const ended = join(directory, 'ended.pem');
    const authority = await issueAuthority('test');
    const past = await issueCertificate('past', ['past'], authority, { days: -0.01 });
    writeFileSync(ended, past.certificate);
    expect(reading({ certificate: ended })).toThrow(`THE_CERTIFICATE: ${ended} ended on`);
  });

  it('that are replaced are read by whoever asks next; halfway through, the old pair is', async () => {
    const directory = join(dir, 'replaced');
    const files = await ensureCertificate(directory, 'it', ['it']);
    const complaints: string[] = [];
    const read = tlsReader(filesOf(files), (why) => complaints.push(why));
    const before = read();
    const { certificate, key } = await ensureCertificate(directory, 'next', ['it']);
    writeFileSync(files.key, readFileSync(key));
    expect(read()).toEqual(before);
    expect(complaints).toEqual([`THE_KEY: ${files.key} is not the key of the certificate in ${files.certificate}`]);
    writeFileSync(files.certificate, readFileSync(certificate));
    expect(read()).toEqual({ ...before, cert: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') });
    rmSync(files.ca);
    expect(read().ca).toBe(before.ca);
  });
});

describe('PostgreSQL over TLS', () => {
  let postgres: RunningPostgres;
  const tls = (): string => join(dir, 'postgres/tls');
  const asked = (change: (parameters: URLSearchParams, url: URL) => void): string => {
    const url = new URL(postgres.url());
    change(url.searchParams, url);
    return url.href;
  };
  async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client(postgresConnection(url)());
    // Of a client that was refused, the socket is gone already.
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }
  const connectionIs = `SELECT ssl, version, client_dn, client_serial::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()`;

  beforeAll(async () => {
    postgres = await startPostgres({
      dir: join(dir, 'postgres'),
      port: await freePort(),
      settings: { fsync: 'off', shared_buffers: '32MB', listen_addresses: '127.0.0.1,127.0.0.2' },
      tls: true,
    });
  }, 60_000);
  afterAll(() => postgres?.stop());

  it('lets in who shows the certificate, and knows the server by its own', async () => {
    expect(await query(postgres.url(), connectionIs)).toEqual([
      expect.objectContaining({ ssl: true, version: 'TLSv1.3', client_dn: '/CN=belay' }),
    ]);
    const none = mkdtempSync(join(dir, 'migrations-'));
    expect(await migrate(postgres.url(), () => {}, none)).toEqual([]);
    expect(await query(await ensureDatabase(postgres.url(), 'further'), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('refuses who has only the password, a certificate of another user, or one of another authority', async () => {
    const plain = asked((parameters) => parameters.set('sslmode', 'disable'));
    await expect(query(plain, 'SELECT 1')).rejects.toThrow('no encryption');
    const bare = asked((parameters) => {
      parameters.delete('sslcert');
      parameters.delete('sslkey');
    });
    await expect(query(bare, 'SELECT 1')).rejects.toThrow(/certificate/);
    const foreign = await ensureCertificate(join(dir, 'foreign'), 'belay', []);
    const show = ({ certificate, key }: typeof foreign): string =>
      asked((parameters) => {
        parameters.set('sslcert', certificate);
        parameters.set('sslkey', key);
      });
    await expect(query(show(foreign), 'SELECT 1')).rejects.toThrow(/alert|certificate|ECONNRESET/);
    const somebody = await ensureCertificate(tls(), 'somebody', []);
    await expect(query(show(somebody), 'SELECT 1')).rejects.toThrow('authentication failed for user "belay"');
    // A server's certificate is no client's, whatever name it has.
    const server = await ensureCertificate(join(dir, 'server'), 'belay', ['belay']);
    for (const path of ['authority.pem', 'authority-key.pem'])
      writeFileSync(join(dir, 'server', path), readFileSync(join(tls(), path)), { mode: 0o600 });
    await ensureCertificate(join(dir, 'server'), 'belay', ['belay'], { renew: true });
    await expect(query(show(server), 'SELECT 1')).rejects.toThrow(/alert|certificate|ECONNRESET/);
    await expect(
      query(
        asked((_, url) => {
          url.password = 'guessed';
        }),
        'SELECT 1',
      ),
    ).rejects.toThrow('password authentication failed');
  });

  it('is not taken for the server when another authority says so, or when it goes by another name', async () => {
    const foreign = await ensureCertificate(join(dir, 'foreign'), 'belay', []);
    const pinned = asked((parameters) => parameters.set('sslrootcert', foreign.ca));
    await expect(query(pinned, 'SELECT 1')).rejects.toThrow(/certificate/);
    const elsewhere = asked((_, url) => {
      url.hostname = '127.0.0.2';
    });
    await expect(query(elsewhere, 'SELECT 1')).rejects.toThrow(/127\.0\.0\.2 is not in the cert's list/);
    for (const mode of ['require', 'no-verify', 'verify-ca'])
      expect(() => postgresConnection(asked((parameters) => parameters.set('sslmode', mode)))).toThrow(
        `sslmode in DATABASE_URL is "${mode}": verify-full is needed`,
      );
    expect(() => postgresConnection(asked((parameters) => parameters.set('sslkey', '/absent')))).toThrow(
      'sslkey in DATABASE_URL: /absent does not exist',
    );
  });

  it('is reached by the next connection with a certificate that was renewed meanwhile; those that are open go on', async () => {
    const database = openDatabase(postgres.url(), 2);
    try {
      const serial = async (client: Pick<pg.PoolClient, 'query'>): Promise<unknown> =>
        (await client.query(connectionIs)).rows[0]?.client_serial;
      const first = await database.connections.connect();
      const before = await serial(first);
      await ensureCertificate(tls(), 'belay', [], { renew: true });
      const second = await database.connections.connect();
      expect(await serial(second)).not.toBe(before);
      expect(await serial(first)).toBe(before);
      const own = database.connection();
      await own.connect();
      expect(await serial(own as unknown as pg.PoolClient)).toBe(await serial(second));
      await own.end();
      first.release();
      second.release();
      expect(await database.prisma.$queryRawUnsafe('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    } finally {
      await database.close();
    }
  });
});

describe('a process that can not use its certificates', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const url = 'postgres://belay@127.0.0.1:1/belay';
  const started = (program: string, environment: NodeJS.ProcessEnv) => {
    const { PATH, HOME } = process.env;
    const env = { PATH, HOME, DATABASE_URL: url, ...environment };
    return spawnSync(process.execPath, [program], { cwd: root, env, encoding: 'utf8', timeout: 25_000 });
  };

  it.each([
    [
      'api/main.ts',
      { DATABASE_URL: `${url}?sslmode=verify-full&sslrootcert=/absent.pem` },
      'sslrootcert in DATABASE_URL: /absent.pem does not exist',
    ],
    ['workers/dispatcher.ts', { DATABASE_URL: `${url}?sslmode=require` }, 'sslmode in DATABASE_URL is "require"'],
    ['workers/control.ts', { BELAY_OVN_NORTHBOUND: 'ssl:127.0.0.1:1' }, 'BELAY_OVN_TLS_CA_FILE is not set'],
    [
      'workers/host.ts',
      { BELAY_TEMPORAL_TLS_CA_FILE: '/absent.pem' },
      'BELAY_TEMPORAL_TLS_CA_FILE: /absent.pem does not exist',
    ],
  ])('%s ends at its start and names the setting', (program, environment, reason) => {
    const { status, stderr } = started(program, environment);
    expect(stderr).toContain(reason);
    expect(status).toBe(1);
  });
});
