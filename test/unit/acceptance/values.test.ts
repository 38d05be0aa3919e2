/** Values on their way in: what is taken is taken as it was meant, in one form; what is not is refused with its field, in words. */
import { generateKeyPairSync } from 'node:crypto';
import ssh2 from 'ssh2';
import { describe, expect, test } from 'vitest';
import { hostnameFrom, nameWith } from '../../../acceptance/compute/instance.ts';
import { publicKeyOf } from '../../../acceptance/compute/keyPair.ts';
import { subnetPlan } from '../../../acceptance/network/subnet.ts';
import { patched } from '../../../acceptance/patch.ts';
import { checkCreate, checkPatch } from '../../../acceptance/validate.ts';
import { unstorable } from '../../../api/storable.ts';
import { forms, instantAt, instantOf, wordsOfPattern } from '../../../model/forms.ts';
import { happenedOf } from '../../../model/happened.ts';
import type { Kind } from '../../../model/kind.ts';
import { allKinds, kinds } from '../../../model/kinds.ts';
import { createSchema, patchSchema } from '../../../model/schemas.ts';
import { Problem } from '../../../runtime/problem.ts';
import { newSshKey } from '../../../runtime/sshKey.ts';

const kind = (name: keyof typeof kinds): Kind => kinds[name] as unknown as Kind;

function refusalOf(act: () => unknown): Problem {
  try {
    act();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  throw new Error('it was accepted');
}
const fieldsOf = (problem: Problem): string[] => (problem.details.violations ?? []).map(({ field }) => field);

describe('an instant', () => {
  test.each([
    ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.000000Z'],
    ['2026-01-31T13:00:00+01:00', '2026-01-31T12:00:00.000000Z'],
    ['2026-01-01t00:30:00.1+01:00', '2025-12-31T23:30:00.100000Z'],
    ['2026-01-31T12:00:00.123456789-00:30', '2026-01-31T12:30:00.123456Z'],
    ['2026-01-31T12:00:00.123+00:00', '2026-01-31T12:00:00.123000Z'],
  ])('%s is kept as %s', (given, kept) => {
    expect(instantOf(given)).toBe(kept);
    expect(instantOf(kept)).toBe(kept);
  });

  test.each([
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T12:00:00',
    '2026-01-31',
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59-01:00',
    '2026-01-31T12:00:60Z',
  ])('%s is none', (given) => {
    expect(instantOf(given)).toBeNull();
  });

  test("of JavaScript's clock is told in the same form", () => {
    const now = instantAt();
    expect(instantOf(now)).toBe(now);
  });
});

describe('forms', () => {
  test.each([
    ['ipv4', '10.0.0.7', true],
    ['ipv4', '10.0.0.07', false],
    ['ipv4', '10.0.0.256', false],
    ['ipv4-network', '10.4.0.0/24', true],
    ['ipv4-network', '10.04.0.0/24', false],
    ['ipv4-network', '10.4.0.1/24', false],
    ['ipv4-network', '0.0.0.0/0', true],
    ['ipv4-network', 'fd00::/8', false],
    ['cidr', 'fd00::/8', true],
    ['cidr', 'fd00::1/8', false],
    ['cidr', '::/127', true],
    ['cidr', '::ffff:10.0.0.0/104', true],
    ['cidr', 'fe80::1%eth0/128', false],
    ['cidr', '10.0.0.0/8', true],
    ['cidr', '10.0.0.1/8', false],
  ] as const)('%s: %s %s', (name, text, fits) => {
    expect(forms[name]?.fits(text)).toBe(fits);
  });

  test('each takes its own canonical form for itself', () => {
    for (const text of ['FD00:0::/8', '::FFFF:10.0.0.0/104', '0:0::/0']) {
      const kept = forms.cidr?.canonical?.(text) ?? '';
      expect(forms.cidr?.canonical?.(kept)).toBe(kept);
    }
    expect(forms.cidr?.canonical?.('FD00:0::/8')).toBe('fd00::/8');
  });

  test('every pattern and format of every field of every kind has words', () => {
    const wordless: string[] = [];
    const walk = (schema: unknown, at: string): void => {
      if (schema === null || typeof schema !== 'object') return;
      const { pattern, format } = schema as { pattern?: unknown; format?: unknown };
      if (typeof pattern === 'string' && !wordsOfPattern(pattern)) wordless.push(`${at}: ${pattern}`);
      if (typeof format === 'string' && !forms[format]) wordless.push(`${at}: ${format}`);
      for (const [name, member] of Object.entries(schema)) walk(member, `${at}.${name}`);
    };
    for (const one of allKinds) {
      walk(createSchema(one), one.name);
      walk(patchSchema(one), one.name);
      for (const [verb, { input }] of Object.entries(one.actions)) walk(input, `${one.name}.${verb}`);
    }
    expect(wordless).toEqual([]);
  });
});

describe('a violation', () => {
  const body = { name: 'a', networkId: '11111111-1111-4111-8111-111111111111' };
  test('of a network tells no regular expression', () => {
    const problem = refusalOf(() => checkCreate(kind('subnet'), { ...body, cidr: '10.04.0.0/24' }));
    expect(problem.details.violations).toEqual([{ field: 'cidr', message: forms.cidr?.words }]);
  });

  test('of a label names the key', () => {
    const problem = refusalOf(() => checkPatch(kind('network'), { labels: { '-bad': 'x', good: 1 } }));
    expect(fieldsOf(problem).sort()).toEqual(['labels.-bad', 'labels.good']);
  });
});

describe('text', () => {
  test('that spells U+0000 is text; the character itself, and half a character, are refused where they stand', () => {
    expect(unstorable({ userData: 'printf "\\u0000"', deep: [{ 'a\\u0000': '\u{1F600}' }] })).toEqual([]);
    const places = unstorable({
      name: 'a\0b',
      deep: [{ note: 'x' }, { note: '\ud800' }],
      labels: { 'k\0': 'v', ok: 'low \udc00' },
    });
    expect(places.map(({ field }) => field)).toEqual(['name', 'deep.1.note', 'labels.k\u{FFFD}', 'labels.ok']);
    expect(unstorable('\0')).toEqual([{ field: 'body', message: 'holds the character U+0000' }]);
  });
});

describe('a PATCH', () => {
  const zone = kind('zone');
  test('takes null for everything that has a default, and nothing else changes', () => {
    for (const one of allKinds) {
      const nullable = Object.entries(one.fields).filter(
        ([, field]) => field.set === 'patch' && field.default !== undefined,
      );
      for (const [name, field] of nullable) {
        const input = checkPatch(one, { [name]: null });
        expect(patched(one, { [name]: 'something else' }, input)).toEqual({ [name]: field.default });
      }
      if (!one.readOnly && one.actions.update) {
        const input = checkPatch(one, { description: null, labels: null });
        expect(patched(one, { description: 'old', labels: { a: 'b' } }, input)).toEqual({
          description: '',
          labels: {},
        });
      }
    }
  });

  test('takes single labels away, adds others, and never leaves more than 64', () => {
    const current = { labels: Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`k${n}`, 'v'])) };
    const put = (labels: Record<string, string | null>): Record<string, string> =>
      patched(zone, current, checkPatch(zone, { labels })).labels as Record<string, string>;
    expect(Object.keys(put({ k0: null }))).toHaveLength(63);
    expect(put({ k0: null, fresh: 'v' })).toMatchObject({ fresh: 'v', k1: 'v' });
    expect(put({ absent: null })).toEqual(current.labels);
    expect(fieldsOf(refusalOf(() => put({ fresh: 'v' })))).toEqual(['labels']);
  });

  test('changes single members of an object, and checks what comes of it', () => {
    const cluster = kind('cluster');
    const current = { reservedHostCapacity: { vcpus: 2, memoryMib: 1024 } };
    const put = (patch: unknown): unknown =>
      patched(cluster, current, checkPatch(cluster, { reservedHostCapacity: patch })).reservedHostCapacity;
    expect(put({ vcpus: 4 })).toEqual({ vcpus: 4, memoryMib: 1024 });
    expect(put({ vcpus: null })).toEqual({ vcpus: 0, memoryMib: 1024 });
    expect(put(null)).toEqual({ vcpus: 0, memoryMib: 512 });
    expect(fieldsOf(refusalOf(() => put({ vcpus: -1 })))).toEqual(['reservedHostCapacity.vcpus']);
    const volumeType = kind('volumeType');
    expect(
      patched(volumeType, { qos: { readIops: 5, writeIops: 6 } }, checkPatch(volumeType, { qos: { readIops: null } })),
    ).toEqual({ qos: { writeIops: 6 } });
  });
});

describe('a name made from another', () => {
  const pattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
  test.each([`${'a'.repeat(62)}-b`, `${'a'.repeat(63)}`, '---', 'Ünïcode', `-${'x'.repeat(200)}-`, 'a.b_c', '0', ' '])(
    'is a host name: %s',
    (name) => {
      expect(hostnameFrom(name, '11111111-1111-4111-8111-111111111111')).toMatch(pattern);
    },
  );

  test('is never longer than a name may be, nor cut through a character', () => {
    for (const name of ['x'.repeat(128), '\u{1F600}'.repeat(128), 'short']) {
      const made = nameWith(name, ' root');
      expect([...made].length).toBeLessThanOrEqual(128);
      expect(made).not.toMatch(/\p{Surrogate}/u);
      expect(made.endsWith(' root')).toBe(true);
    }
  });
});

describe('a public key', () => {
  const keys = (['ed25519', 'rsa', 'ecdsa'] as const).flatMap((type) =>
    (type === 'ecdsa' ? [256, 384, 521] : type === 'rsa' ? [2048] : [0]).map(
      (bits) => newSshKey(() => ssh2.utils.generateKeyPairSync(type as 'ed25519', { bits } as never)).public,
    ),
  );
  const [ed25519 = ''] = keys;
  const [type = '', body = ''] = ed25519.split(' ');
  const blob = Buffer.from(body, 'base64');
  const line = (bytes: Buffer, name = type): string => `${name} ${bytes.toString('base64')}`;

  test.each(keys.map((key) => [key.split(' ')[0], key]))('of type %s is taken as it is', (name, key) => {
    expect(publicKeyOf(`${key} me@laptop`)).toMatchObject({ type: name, publicKey: `${key} me@laptop` });
    expect(publicKeyOf(`  ${key}\tme@laptop \r\n`).publicKey).toBe(`${key} me@laptop`);
    expect(publicKeyOf(key).fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/);
  });

  test.each([
    ['two lines', `${ed25519}\n${keys[1]}`],
    ['a second line that looks like a comment', `${ed25519}\rhello`],
    ['a header without a key', line(blob.subarray(0, 15))],
    ['an empty key', line(Buffer.concat([blob.subarray(0, 15), Buffer.alloc(4)]))],
    ['a key that breaks off', line(blob.subarray(0, 50))],
    ['a key with something behind it', line(Buffer.concat([blob, Buffer.from([0])]))],
    ['the blob of another type', line(blob, 'ssh-rsa')],
    ['an unknown type', line(blob, 'ssh-dss')],
    ['the name of a property of all objects', line(blob, 'constructor')],
    ['something that is no base64', `${type} ${body.slice(0, 20)}*${body.slice(21)}`],
    ['options before the type', `command="x" ${ed25519}`],
    ['a control character', `${ed25519} me\u0007`],
    ['only the type', type],
    ['nothing', ''],
    ['a private key', generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()],
  ])('is refused: %s', (_, key) => {
    expect(fieldsOf(refusalOf(() => publicKeyOf(key)))).toEqual(['publicKey']);
  });
});

describe('a subnet', () => {
  test.each([
    ['224.0.0.0/24'],
    ['239.1.0.0/16'],
    ['127.0.0.0/24'],
    ['0.0.0.0/8'],
    ['169.254.0.0/16'],
    ['169.254.7.0/24'],
    ['169.0.0.0/8'],
    ['240.0.0.0/8'],
    ['255.255.255.0/24'],
    ['10.0.0.0/30'],
    ['10.0.0.0/7'],
  ])('%s is refused', (cidr) => {
    expect(fieldsOf(refusalOf(() => subnetPlan({ cidr })))).toEqual(['cidr']);
  });

  const cidr = '10.7.0.0/24';
  const range = (from: number, to: number) => ({ from: `10.7.0.${from}`, to: `10.7.0.${to}` });
  test.each([
    ['only the gateway', [range(1, 1)], 'allocationRanges.0'],
    ['only the gateway, beside another', [range(5, 9), range(1, 1)], 'allocationRanges.1'],
    ['upside down', [range(9, 5)], 'allocationRanges.0.to'],
    ['the address of the network', [range(0, 5)], 'allocationRanges.0.from'],
    ['the broadcast address', [range(5, 255)], 'allocationRanges.0.to'],
    ['two that overlap', [range(5, 9), range(20, 30), range(9, 12)], 'allocationRanges.2'],
    ['one twice', [range(5, 9), range(5, 9)], 'allocationRanges.1'],
  ])('has no range of %s', (_, allocationRanges, field) => {
    expect(fieldsOf(refusalOf(() => subnetPlan({ cidr, allocationRanges })))).toEqual([field]);
  });

  test('takes as many ranges as the document says, the lowest first', () => {
    const allocationRanges = Array.from({ length: 16 }, (_, n) => range(200 - n * 10, 205 - n * 10));
    const { ranges } = subnetPlan({ cidr, allocationRanges });
    expect(ranges).toHaveLength(16);
    expect(ranges[0]?.first).toBe(10 * 2 ** 24 + 7 * 2 ** 16 + 50);
    expect(subnetPlan({ cidr, allocationRanges: [] }).ranges).toHaveLength(1);
    expect(subnetPlan({ cidr, gateway: null, allocationRanges: null }).gateway).toBe('10.7.0.1');
  });
});

test('every action of every kind has a word for having happened', () => {
  const words = allKinds.flatMap((kind) => Object.keys(kind.actions).map((verb) => happenedOf(kind, verb)));
  expect(new Set(words)).toContain('reset');
  expect(words.filter((word) => /eed$|tted?ed$|eted$/.test(word) && word !== 'deleted')).toEqual([]);
});
