import net from 'node:net';
import { type XdrReader, type XdrWriter, xdrReader, xdrWriter } from './xdr.ts';

/**
 * libvirt's own wire protocol (its `virnetprotocol.x`): a length, six words of header, an XDR payload. Requests may be answered in
 * any order, so each carries a serial number.
 */

export const REMOTE_PROGRAM = 0x20008086;
export const QEMU_PROGRAM = 0x20008087;

const PROTOCOL_VERSION = 1;
const HEADER_BYTES = 28;
const TYPE_CALL = 0;
const TYPE_MESSAGE = 2;
const STATUS_OK = 0;
/** VIR_NET_MESSAGE_MAX: a longer one is no libvirt at the other end. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

/** An error that libvirt answered; `code` is one of `virErrorNumber`. */
export class LibvirtError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = 'LibvirtError';
    this.code = code;
  }
}

/** The connection was lost, or could not be made. */
export class LibvirtUnavailable extends Error {}

export interface RpcConnection {
  call(procedure: number, args?: XdrWriter, program?: number): Promise<XdrReader>;
  readonly closed: Promise<void>;
  readonly isOpen: boolean;
  close(): void;
}

export interface RpcMessage {
  program: number;
  procedure: number;
  type: number;
  serial: number;
  status: number;
  payload: Buffer;
}

export function encodeMessage(message: RpcMessage): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const words = [
    HEADER_BYTES + message.payload.length,
    message.program,
    PROTOCOL_VERSION,
    message.procedure,
    message.type,
    message.serial,
    message.status,
  ];
  words.forEach((word, index) => {
    header.writeUInt32BE(word, index * 4);
  });
  return Buffer.concat([header, message.payload]);
}

/** Cuts messages out of a stream of bytes, whatever the pieces in which they arrive. */
export function messageDecoder(onMessage: (message: RpcMessage) => void): (chunk: Buffer) => void {
  let pending: Buffer[] = [];
  let length = 0;
  return (chunk) => {
    pending.push(chunk);
    length += chunk.length;
    while (length >= 4) {
      // A large answer comes in hundreds of pieces: they are joined when the message is whole, before that only for its length.
      if ((pending[0]?.length ?? 0) < 4) pending = [Buffer.concat(pending)];
      const size = pending[0]?.readUInt32BE(0) ?? 0;
      if (size < HEADER_BYTES || size > MAX_MESSAGE_BYTES)
        throw new RangeError(`a message of ${size} bytes from libvirt`);
      if (length < size) return;
      const whole = Buffer.concat(pending);
      pending = [whole.subarray(size)];
      length -= size;
      onMessage({
        program: whole.readUInt32BE(4),
        procedure: whole.readUInt32BE(12),
        type: whole.readUInt32BE(16),
        serial: whole.readUInt32BE(20),
        status: whole.readUInt32BE(24),
        payload: whole.subarray(HEADER_BYTES, size),
      });
    }
  };
}

/** @throws LibvirtUnavailable when nobody listens at `socketPath`. */
export function connectRpc(
  socketPath: string,
  onEvent: (procedure: number, payload: XdrReader) => void,
): Promise<RpcConnection> {
  return new Promise((resolve, reject) => {
    const waiting = new Map<number, { resolve: (reader: XdrReader) => void; reject: (error: Error) => void }>();
    const socket = net.connect(socketPath);
    let serial = 0;
    let isOpen = false;
    let resolveClosed: () => void = () => {};
    const closed = new Promise<void>((done) => {
      resolveClosed = done;
    });

    const decode = messageDecoder((message) => {
      const payload = xdrReader(message.payload);
      if (message.type === TYPE_MESSAGE) return onEvent(message.procedure, payload);
      const caller = waiting.get(message.serial);
      waiting.delete(message.serial);
      if (!caller) return;
      if (message.status === STATUS_OK) return caller.resolve(payload);
      const code = payload.int();
      payload.int(); // the part of libvirt that failed
      caller.reject(new LibvirtError(code, payload.optionalString() ?? `libvirt error ${code}`));
    });

    socket.on('data', (chunk) => {
      try {
        decode(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', (error) => {
      reject(new LibvirtUnavailable(`libvirt does not answer at ${socketPath}: ${error.message}`));
    });
    socket.on('close', () => {
      isOpen = false;
      for (const caller of waiting.values())
        caller.reject(new LibvirtUnavailable('the connection to libvirt was lost'));
      waiting.clear();
      resolveClosed();
    });
    socket.on('connect', () => {
      isOpen = true;
      resolve({
        closed,
        get isOpen() {
          return isOpen;
        },
        close: () => socket.destroy(),
        call(procedure, args = xdrWriter(), program = REMOTE_PROGRAM) {
          return new Promise((answered, failed) => {
            if (!isOpen) return failed(new LibvirtUnavailable('the connection to libvirt was lost'));
            serial += 1;
            waiting.set(serial, { resolve: answered, reject: failed });
            const payload = args.bytes();
            socket.write(encodeMessage({ program, procedure, type: TYPE_CALL, serial, status: STATUS_OK, payload }));
          });
        },
      });
    });
  });
}
