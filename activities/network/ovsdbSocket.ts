/** The way to one of OVN's databases (RFC 7047): in clear, by a Unix socket, or over TLS with a certificate on both sides. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { config } from '../../runtime/config.ts';
import { log } from '../../runtime/log.ts';
import { type TlsFiles, type TlsMaterial, tlsReader } from '../../runtime/tls.ts';

const isTls = (remote: string): boolean => remote.startsWith('ssl:');

/** What `ssl:` addresses are reached with, read again for each connection; null where there are none. */
export type OvsdbTls = (() => TlsMaterial) | null;

/** @throws Error that names the setting which is missing, or whose file can not be used */
export function ovsdbTls(remotes: string[], files: TlsFiles = config.ovnTls): OvsdbTls {
  const remote = remotes.flatMap((list) => list.split(',')).find(isTls);
  if (!remote) return null;
  for (const [name, file] of Object.entries({ CA: files.ca, CERTIFICATE: files.certificate, KEY: files.key }))
    if (!file) throw new Error(`BELAY_OVN_TLS_${name}_FILE is not set; ${remote} is reached with it`);
  return tlsReader(files, (why) =>
    log.warn({ why }, 'a certificate for OVN can not be used; going on with the one before'),
  );
}

const addressForm = /^(?:(?:tcp|ssl):(?:\[([^\]]+)\]|([^:]+)):(\d+)|unix:(.+))$/;

/** A connection that is being opened. What is written meanwhile is sent once the other side has proven who it is. */
export function ovsdbSocket(remote: string, tls: OvsdbTls): Socket {
  const [matches, v6, name, port, path] = addressForm.exec(remote) ?? [];
  if (!matches) throw new Error(`an OVSDB address is tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH, found "${remote}"`);
  if (path) return connect({ path });
  const place = { host: v6 ?? name ?? '', port: Number(port) };
  if (!isTls(remote)) return connect({ ...place, noDelay: true });
  if (!tls) throw new Error(`${remote} can not be reached without certificates`);
  return connectTls({ ...place, ...tls(), minVersion: 'TLSv1.2' }).setNoDelay(true);
}
