/** New SSH keys. */
import ssh2 from 'ssh2';

export interface SshKeyPair {
  /** In OpenSSH's format. */
  private: string;
  /** One line for authorized_keys. */
  public: string;
}

const isReadable = (text: string): boolean => !(ssh2.utils.parseKey(text) instanceof Error);

/** Of one key in 256 ssh2 writes a public part that is a byte short (ssh2 1.17: it takes a leading zero away), and which nobody can read. */
export const isWhole = (pair: SshKeyPair): boolean => isReadable(pair.private) && isReadable(pair.public);

/** A new ed25519 key that can be read again. */
export function newSshKey(make = (): SshKeyPair => ssh2.utils.generateKeyPairSync('ed25519')): SshKeyPair {
  for (let pair = make(); ; pair = make()) if (isWhole(pair)) return pair;
}
