/**
 * XDR (RFC 4506), as far as libvirt's protocol needs it: big-endian, everything padded to 4 bytes.
 */

/** A value of libvirt's typed parameters; the tag is `virTypedParameterType`. */
export type TypedValue =
  | { type: 'int' | 'uint'; value: number }
  | { type: 'llong' | 'ullong'; value: bigint }
  | { type: 'double'; value: number }
  | { type: 'boolean'; value: boolean }
  | { type: 'string'; value: string };

export type TypedParameters = Map<string, TypedValue>;

const TYPED = ['int', 'uint', 'llong', 'ullong', 'double', 'boolean', 'string'] as const;
const UUID_BYTES = 16;

export interface XdrWriter {
  int(value: number): XdrWriter;
  uint(value: number): XdrWriter;
  hyper(value: bigint): XdrWriter;
  string(value: string): XdrWriter;
  optionalString(value: string | null): XdrWriter;
  opaque(value: Buffer): XdrWriter;
  /** Opaque of a length that both sides know, such as a UUID. */
  fixed(value: Buffer): XdrWriter;
  typedParameters(parameters: TypedParameters): XdrWriter;
  bytes(): Buffer;
}

export function xdrWriter(): XdrWriter {
  const parts: Buffer[] = [];
  const word = (write: (buffer: Buffer) => void, length = 4) => {
    const buffer = Buffer.alloc(length);
    write(buffer);
    parts.push(buffer);
    return writer;
  };
  const writer: XdrWriter = {
    int: (value) => word((buffer) => buffer.writeInt32BE(value)),
    uint: (value) => word((buffer) => buffer.writeUInt32BE(value)),
    hyper: (value) => word((buffer) => buffer.writeBigUInt64BE(BigInt.asUintN(64, value)), 8),
    string: (value) => writer.opaque(Buffer.from(value, 'utf8')),
    optionalString: (value) => (value === null ? writer.uint(0) : writer.uint(1).string(value)),
    opaque(value) {
      writer.uint(value.length);
      return writer.fixed(value);
    },
    fixed(value) {
      parts.push(value, Buffer.alloc((4 - (value.length % 4)) % 4));
      return writer;
    },
    typedParameters(parameters) {
      writer.uint(parameters.size);
      for (const [name, parameter] of parameters) {
        writer.string(name).int(TYPED.indexOf(parameter.type) + 1);
        if (parameter.type === 'string') writer.string(parameter.value);
        else if (parameter.type === 'boolean') writer.int(parameter.value ? 1 : 0);
        else if (parameter.type === 'double') word((buffer) => buffer.writeDoubleBE(parameter.value), 8);
        else if (parameter.type === 'int') writer.int(parameter.value);
        else if (parameter.type === 'uint') writer.uint(parameter.value);
        else if (parameter.type === 'llong' || parameter.type === 'ullong') writer.hyper(parameter.value);
      }
      return writer;
    },
    bytes: () => Buffer.concat(parts),
  };
  return writer;
}

export interface XdrReader {
  int(): number;
  uint(): number;
  hyper(): bigint;
  string(): string;
  optionalString(): string | null;
  opaque(): Buffer;
  fixed(length: number): Buffer;
  uuid(): string;
  array<Element>(element: () => Element): Element[];
  typedParameters(): TypedParameters;
}

/** @throws RangeError when the buffer is shorter than what is asked for. */
export function xdrReader(buffer: Buffer): XdrReader {
  let offset = 0;
  const advance = (length: number) => {
    if (offset + length > buffer.length) throw new RangeError('libvirt answered less than its protocol promises');
    const at = offset;
    offset += length;
    return at;
  };
  const reader: XdrReader = {
    int: () => buffer.readInt32BE(advance(4)),
    uint: () => buffer.readUInt32BE(advance(4)),
    hyper: () => buffer.readBigUInt64BE(advance(8)),
    string: () => reader.opaque().toString('utf8'),
    optionalString: () => (reader.uint() === 0 ? null : reader.string()),
    opaque: () => reader.fixed(reader.uint()),
    fixed(length) {
      const at = advance(length + ((4 - (length % 4)) % 4));
      return buffer.subarray(at, at + length);
    },
    uuid: () => formatUuid(reader.fixed(UUID_BYTES)),
    array: (element) => Array.from({ length: reader.uint() }, element),
    typedParameters: () => new Map(reader.array(() => [reader.string(), readTyped()] as const)),
  };
  const readTyped = (): TypedValue => {
    const tag = reader.int();
    const type = TYPED[tag - 1];
    switch (type) {
      case 'int':
        return { type, value: reader.int() };
      case 'uint':
        return { type, value: reader.uint() };
      case 'llong':
        return { type, value: BigInt.asIntN(64, reader.hyper()) };
      case 'ullong':
        return { type, value: reader.hyper() };
      case 'double':
        return { type, value: buffer.readDoubleBE(advance(8)) };
      case 'boolean':
        return { type, value: reader.int() !== 0 };
      case 'string':
        return { type, value: reader.string() };
      default:
        throw new RangeError(`libvirt sent a parameter of the unknown type ${tag}`);
    }
  };
  return reader;
}

export function parseUuid(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

export function formatUuid(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** A number of a typed parameter, 0 when libvirt did not send it. */
export function numberOf(parameters: TypedParameters, name: string): number {
  const parameter = parameters.get(name);
  return parameter === undefined || parameter.type === 'string' ? 0 : Number(parameter.value);
}
