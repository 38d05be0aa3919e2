import { describe, expect, it } from 'vitest';
import { encodeMessage, messageDecoder, type RpcMessage } from '../../../host-agent/agent/libvirtRpc.ts';
import { jsonStreamDecoder, readMap, writeMap } from '../../../host-agent/agent/ovsdb.ts';
import { formatUuid, parseUuid, type TypedParameters, xdrReader, xdrWriter } from '../../../host-agent/agent/xdr.ts';

describe('XDR', () => {
  it('brings every kind of value there and back, padded to four bytes', () => {
    const uuid = '6f1c1c2e-5b7e-4f0e-9d0a-3f6f2f2f0001';
    const bytes = xdrWriter()
      .int(-5)
      .uint(4_000_000_000)
      .hyper(2n ** 63n)
      .string('äbc')
      .optionalString(null)
      .optionalString('x')
      .opaque(Buffer.from([1, 2, 3, 4, 5]))
      .fixed(parseUuid(uuid))
      .bytes();
    expect(bytes.length % 4).toBe(0);
    const reader = xdrReader(bytes);
    expect(reader.int()).toBe(-5);
    expect(reader.uint()).toBe(4_000_000_000);
    expect(reader.hyper()).toBe(2n ** 63n);
    expect(reader.string()).toBe('äbc');
    expect(reader.optionalString()).toBeNull();
    expect(reader.optionalString()).toBe('x');
    expect([...reader.opaque()]).toEqual([1, 2, 3, 4, 5]);
    expect(reader.uuid()).toBe(uuid);
    expect(formatUuid(parseUuid(uuid))).toBe(uuid);
  });

  it('brings typed parameters there and back', () => {
    const parameters: TypedParameters = new Map([
      ['an int', { type: 'int', value: -1 }],
      ['an uint', { type: 'uint', value: 3_000_000_000 }],
      ['a llong', { type: 'llong', value: -7n }],
      ['an ullong', { type: 'ullong', value: 2n ** 60n }],
      ['a double', { type: 'double', value: 1.5 }],
      ['a boolean', { type: 'boolean', value: true }],
      ['a string', { type: 'string', value: 'tcp://10.0.0.1' }],
    ]);
    expect(xdrReader(xdrWriter().typedParameters(parameters).bytes()).typedParameters()).toEqual(parameters);
  });

  it('does not read beyond the end', () => {
    expect(() => xdrReader(Buffer.from([0, 0, 0, 9, 1])).string()).toThrow(RangeError);
  });
});

describe('messages of libvirt', () => {
  const message = (serial: number, payload: Buffer): RpcMessage => ({
    program: 0x20008086,
    procedure: 14,
    type: 1,
    serial,
    status: 0,
    payload,
  });
  const stream = Buffer.concat([
    encodeMessage(message(1, Buffer.from('abcd'))),
    encodeMessage(message(2, Buffer.alloc(0))),
    encodeMessage(message(3, Buffer.alloc(100_000, 7))),
  ]);

  it.each([1, 3, 28, 29, 4096, 1 << 20])('are whole again when they come in pieces of %i bytes', (size) => {
    const decoded: RpcMessage[] = [];
    const decode = messageDecoder((one) => decoded.push(one));
    for (let at = 0; at < stream.length; at += size) decode(stream.subarray(at, at + size));
    expect(decoded.map(({ serial, payload }) => [serial, payload.length])).toEqual([
      [1, 4],
      [2, 0],
      [3, 100_000],
    ]);
    expect(decoded[0]).toMatchObject({ program: 0x20008086, procedure: 14, type: 1, status: 0 });
  });

  it('of an impossible length are refused', () => {
    const decode = messageDecoder(() => {});
    expect(() => decode(Buffer.from([0x7f, 0xff, 0xff, 0xff]))).toThrow(RangeError);
    expect(() => messageDecoder(() => {})(Buffer.from([0, 0, 0, 4]))).toThrow(RangeError);
  });
});

describe('messages of OVSDB', () => {
  it('end where their braces do, whatever stands in their strings', () => {
    const sent = [
      { id: 1, result: [{ rows: [] }] },
      { method: 'echo', params: ['}{"\\'] },
      { id: 2, result: 'ü}' },
    ];
    const text = sent.map((one) => JSON.stringify(one)).join('');
    const received: unknown[] = [];
    const decode = jsonStreamDecoder((one) => received.push(one));
    for (const character of text) decode(character);
    expect(received).toEqual(sent);
  });

  it('carry maps as lists of pairs', () => {
    expect(readMap(writeMap({ a: '1', b: '2' }))).toEqual({ a: '1', b: '2' });
    expect(readMap(['set', []])).toEqual({});
  });
});
