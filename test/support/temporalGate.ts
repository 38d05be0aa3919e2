import { readFileSync } from 'node:fs';
import { connect, createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';

export interface Gate {
  address: string;
  /** Serial numbers of the certificates that were shown, the newest last. */
  shown: string[];
  /** Who shows one of these is turned away, also in the middle. */
  refuse(serial: string): void;
  /** The API key that opens; every call is asked for it. */
  apiKey: string;
  close(): Promise<void>;
}

/** gRPC over TLS in front of a Temporal Service that speaks in clear: asks for a client's certificate, and for an API key. */
export async function openGate(
  behind: string,
  files: { ca: string; certificate: string; key: string },
  apiKey: string,
): Promise<Gate> {
  const sessions = new Map<ServerHttp2Session, string>();
  const refused = new Set<string>();
  const shown: string[] = [];
  const inside = connect(`http://${behind}`);
  const server = createSecureServer({
    ca: readFileSync(files.ca),
    cert: readFileSync(files.certificate),
    key: readFileSync(files.key),
    requestCert: true,
    rejectUnauthorized: true,
    settings: { maxConcurrentStreams: 1_000 },
  });
  server.on('session', (session) => {
    session.on('error', () => {});
    const { serialNumber } = (session.socket as TLSSocket).getPeerCertificate();
    shown.push(serialNumber);
    sessions.set(session, serialNumber);
    session.once('close', () => sessions.delete(session));
    if (refused.has(serialNumber)) session.destroy();
  });
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    if (headers.authorization !== `Bearer ${gate.apiKey}`) {
      const status = { 'grpc-status': '16', 'grpc-message': 'another key is needed' };
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', ...status }, { endStream: true });
      return;
    }
    const { authorization: _, ...rest } = headers;
    const request = inside.request({ ...rest, ':authority': behind, ':scheme': 'http' });
    let trailers = {};
    request.on('error', () => stream.close());
    request.on('response', (response) => {
      if (stream.destroyed) return;
      stream.respond(response, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers(trailers));
      request.pipe(stream);
    });
    request.on('trailers', (last) => {
      trailers = last;
    });
    stream.on('close', () => request.close());
    stream.pipe(request);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const gate: Gate = {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    shown,
    refuse(serial) {
      refused.add(serial);
      for (const [session, shownThere] of sessions) if (shownThere === serial) session.destroy();
    },
    apiKey,
    async close() {
      for (const session of sessions.keys()) session.destroy();
      inside.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return gate;
}
