/** What of a host `rotateCredentials` changes. Its certificate is renewed by itself, and its key of storage goes with its guests. */
export const hostCredentials = ['sshKey', 'bmcPassword'] as const;
export type HostCredential = (typeof hostCredentials)[number];
