import { X509Certificate } from 'node:crypto';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { issueAuthority, issueCertificate } from '../../../runtime/certificate.ts';

const hostId = '8a3c2f1e-0000-4000-8000-000000000001';
const commonName = 'Belay migration';
const authority = await issueAuthority(commonName);

test('a host is certified under its id and its address, by the authority and no other', async () => {
  const names = [hostId, '10.0.0.7', 'fd00::7:1', '::ffff:192.0.2.1', 'host-1.example'];
  const certificate = new X509Certificate((await issueCertificate(hostId, names, authority)).certificate);
  const issuer = new X509Certificate(authority.certificate);
  expect(certificate.checkIssued(issuer)).toBe(true);
  expect(certificate.verify(issuer.publicKey)).toBe(true);
  expect(certificate.ca).toBe(false);
  expect(issuer.ca).toBe(true);
  for (const name of [hostId, 'host-1.example']) expect(certificate.checkHost(name)).toBe(name);
  for (const address of ['10.0.0.7', 'fd00::7:1', '::ffff:192.0.2.1'])
    expect(certificate.checkIP(address)).toBe(address);
  expect(certificate.checkIP('10.0.0.8')).toBeUndefined();
  expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  expect(certificate.verify(new X509Certificate((await issueAuthority(commonName)).certificate).publicKey)).toBe(false);
});

test('two hosts know each other over TLS', async () => {
  const end = async (name: string) => {
    const { certificate: cert, key } = await issueCertificate(name, [name, '127.0.0.1'], authority);
    return { cert, key, ca: authority.certificate, rejectUnauthorized: true };
  };
  const server = createServer({ ...(await end('there')), requestCert: true });
  try {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const accepted = new Promise<TLSSocket>((resolve) => server.once('secureConnection', resolve));
    const client = connect({ ...(await end('here')), host: '127.0.0.1', port: address.port });
    const met = await accepted;
    expect(met.authorized).toBe(true);
    expect(met.getPeerCertificate().subject.CN).toBe('here');
    client.destroy();
  } finally {
    server.close();
  }
});
