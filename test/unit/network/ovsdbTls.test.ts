/** OVN's databases over TLS: who shows no certificate gets no answer, and a renewed one is shown by the next connection. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OvsdbOperation, openNorthbound } from '../../../activities/network/northbound.ts';
import { type OvsdbTls, ovsdbTls } from '../../../activities/network/ovsdbSocket.ts';
import { removeChassis } from '../../../activities/platform/southbound.ts';
import { type Simulator, startSimulator } from '../../../lab/simulated/simulator.ts';
import { type CertificateFiles, ensureCertificate } from '../../../runtime/certificateFiles.ts';
import type { TlsFiles } from '../../../runtime/tls.ts';

let dir: string;
let simulator: Simulator;
let gate: Server;
let remote: string;
let files: CertificateFiles;
const open = new Set<TLSSocket>();
const shown: string[] = [];

const settingsOf = ({ ca, certificate, key }: CertificateFiles): TlsFiles => ({
  ca: { setting: 'BELAY_OVN_TLS_CA_FILE', path: ca },
  certificate: { setting: 'BELAY_OVN_TLS_CERTIFICATE_FILE', path: certificate },
  key: { setting: 'BELAY_OVN_TLS_KEY_FILE', path: key },
});

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'belay-ovn-'));
  simulator = await startSimulator({ hosts: 1 });
  const server = await ensureCertificate(dir, 'ovn', ['ovn', '127.0.0.1']);
  files = await ensureCertificate(dir, 'belay', []);
  const [, host = '', port] = simulator.ovn.nbRemote.split(':');
  const material = {
    ca: readFileSync(server.ca),
    cert: readFileSync(server.certificate),
    key: readFileSync(server.key),
  };
  gate = createServer({ ...material, requestCert: true, rejectUnauthorized: true }, (socket) => {
    shown.push(socket.getPeerCertificate().serialNumber);
    open.add(socket);
    const inside = connect({ host, port: Number(port) });
    for (const end of [socket, inside]) end.on('error', () => {});
    socket.pipe(inside).pipe(socket);
    socket.once('close', () => {
      open.delete(socket);
      inside.destroy();
    });
  });
  await new Promise<void>((resolve) => gate.listen(0, '0.0.0.0', resolve));
  remote = `ssl:127.0.0.1:${(gate.address() as AddressInfo).port}`;
});

afterAll(async () => {
  for (const socket of open) socket.destroy();
  gate.close();
  await simulator.stop();
  rmSync(dir, { recursive: true, force: true });
});

const select: OvsdbOperation = { op: 'select', table: 'Logical_Switch', where: [] };
async function asked(to: string, tls: OvsdbTls): Promise<unknown> {
  const northbound = openNorthbound(to, tls);
  try {
    return await northbound.transact('look', [select]);
  } finally {
    northbound.close();
  }
}

test('both databases are reached by ssl: with the certificate of the control plane', async () => {
  const tls = ovsdbTls([remote], settingsOf(files));
  expect(await asked(remote, tls)).toEqual([{ rows: [] }, {}]);
  await removeChassis({ remotes: remote, tls }, 'nobody');
  expect(new Set(shown)).toEqual(new Set([new X509Certificate(readFileSync(files.certificate)).serialNumber]));
});

test('nothing is sent in clear, without a certificate, or to who can not prove to be the database', async () => {
  const tls = ovsdbTls([remote], settingsOf(files));
  const own = tls?.();
  const foreign = await ensureCertificate(join(dir, 'foreign'), 'belay', []);
  const bare = (): { ca?: string } => (own?.ca ? { ca: own.ca } : {});
  await expect(asked(remote.replace('ssl:', 'tcp:'), tls)).rejects.toThrow('OVN northbound');
  const server = await ensureCertificate(dir, 'ovn', ['ovn', '127.0.0.1']);
  await expect(asked(remote, ovsdbTls([remote], settingsOf(server)))).rejects.toThrow('OVN northbound');
  await expect(asked(remote, bare)).rejects.toThrow('OVN northbound');
  await expect(asked(remote, () => ({ ...own, ca: readFileSync(foreign.ca, 'utf8') }))).rejects.toThrow('certificate');
  await expect(asked(remote.replace('127.0.0.1', '127.0.0.2'), tls)).rejects.toThrow(
    "127.0.0.2 is not in the cert's list",
  );
});

test('a missing setting, or a file that can not be used, is told by its name', () => {
  const settings = settingsOf(files);
  expect(
    ovsdbTls(['tcp:127.0.0.1:6641', 'unix:/run/nb.sock', ''], { ca: null, certificate: null, key: null }),
  ).toBeNull();
  expect(() => ovsdbTls([`tcp:127.0.0.1:6641,${remote}`], { ...settings, key: null })).toThrow(
    'BELAY_OVN_TLS_KEY_FILE is not set',
  );
  const ca = { setting: 'BELAY_OVN_TLS_CA_FILE', path: '/absent.pem' };
  expect(() => ovsdbTls([remote], { ...settings, ca })).toThrow('BELAY_OVN_TLS_CA_FILE: /absent.pem does not exist');
});

test('a connection that is cut off comes again with the certificate that was renewed meanwhile', async () => {
  const northbound = openNorthbound(remote, ovsdbTls([remote], settingsOf(files)));
  try {
    await northbound.transact('look', [select]);
    const before = shown.at(-1);
    await ensureCertificate(dir, 'belay', [], { renew: true });
    await northbound.transact('look', [select]);
    expect(shown.at(-1)).toBe(before);
    for (const socket of open) socket.destroy();
    await expect.poll(() => northbound.transact('look', [select]).catch(() => null)).toEqual([{ rows: [] }, {}]);
    expect(shown.at(-1)).toBe(new X509Certificate(readFileSync(files.certificate)).serialNumber);
    expect(shown.at(-1)).not.toBe(before);
  } finally {
    northbound.close();
  }
});
