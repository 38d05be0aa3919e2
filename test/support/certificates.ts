/** Certificates of an authority that nobody else trusts. */
import { issueAuthority, issueCertificate } from '../../runtime/certificate.ts';

export interface WithKey {
  certificate: string;
  chain: string;
  privateKey: string;
}

export async function newCertificate(...names: string[]): Promise<WithKey> {
  const authority = await issueAuthority('Authority of a test');
  const { certificate, key } = await issueCertificate(names[0] ?? 'www.example.org', names, authority, {
    end: 'server',
  });
  return { certificate, chain: authority.certificate, privateKey: key };
}
