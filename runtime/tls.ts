/**
 * What one end of a TLS connection trusts and shows, from files that may be replaced while the process runs: they are read again for
 * each new connection. Keys are never told.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';

/** A file, and the setting that names it. */
export interface NamedFile {
  setting: string;
  path: string;
}

export interface TlsFiles {
  ca: NamedFile | null;
  certificate: NamedFile | null;
  key: NamedFile | null;
}

export interface TlsMaterial {
  ca?: string;
  cert?: string;
  key?: string;
}

class UnusableFile extends Error {}

const unusable = ({ setting, path }: NamedFile, why: string): UnusableFile =>
  new UnusableFile(`${setting}: ${path} ${why}`);

/** A file's text. @throws Error that names the setting */
export function readNamed(file: NamedFile): string {
  try {
    return readFileSync(file.path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw unusable(file, code === 'ENOENT' ? 'does not exist' : `can not be read: ${code ?? message}`);
  }
}

/** The text of a file that nobody else may read: its owner alone, and, where that is root, its group. @throws Error that names the setting */
export function readSecretFile(file: NamedFile): string {
  const text = readNamed(file);
  const { mode, uid } = statSync(file.path);
  const others = uid === 0 ? 0o037 : 0o077;
  if ((mode & others) !== 0)
    throw unusable(
      file,
      `may be read or written by others (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); make it 0600`,
    );
  return text;
}

function certificateIn(file: NamedFile, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw unusable(file, 'holds no certificate in PEM');
  }
}

/** @throws Error that names the setting whose file can not be used */
function readAll({ ca, certificate, key }: TlsFiles): TlsMaterial {
  const material: TlsMaterial = {};
  if (ca) {
    material.ca = readNamed(ca);
    certificateIn(ca, material.ca);
  }
  if (!certificate || !key) {
    const [lonely, other] = certificate ? [certificate, 'key'] : [key, 'certificate'];
    if (lonely) throw unusable(lonely, `is of no use without a file for the ${other}`);
    return material;
  }
  material.cert = readNamed(certificate);
  material.key = readSecretFile(key);
  const shown = certificateIn(certificate, material.cert);
  if (Date.parse(shown.validTo) < Date.now()) throw unusable(certificate, `ended on ${shown.validTo}`);
  let matches: boolean;
  try {
    matches = shown.checkPrivateKey(createPrivateKey(material.key));
  } catch {
    throw unusable(key, 'holds no private key in PEM');
  }
  if (!matches) throw unusable(key, `is not the key of the certificate in ${certificate.path}`);
  return material;
}

/**
 * Reads the files now, and again at each call. While they are being replaced, or when they were replaced by something that can not be
 * used, the last good ones are answered, and `complain` is told why.
 *
 * @throws Error that names the setting, when they can not be used now
 */
export function tlsReader(files: TlsFiles, complain: (why: string) => void = () => {}): () => TlsMaterial {
  let good = readAll(files);
  return () => {
    try {
      good = readAll(files);
    } catch (error) {
      if (!(error instanceof UnusableFile)) throw error;
      complain(error.message);
    }
    return good;
  };
}
