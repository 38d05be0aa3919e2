import { describe, expect, it } from 'vitest';
import type { Visible } from '../../../acceptance/visible.ts';
import { compileFilter } from '../../../api/query/compile.ts';
import { FilterError, parseFilter } from '../../../api/query/filter.ts';
import { relationsOf } from '../../../api/query/relations.ts';
import { identifier, render, type Statement, sql } from '../../../database/sql.ts';
import { type KindName, kindOf } from '../../../model/kinds.ts';

const everything: Visible = () => null;
const A = '00000000-0000-4000-8000-00000000000a';

function compiled(kind: KindName, text: string, visible: Visible = everything): Statement {
  const expression = parseFilter(text);
  if (!expression) throw new Error('empty filter');
  return render(compileFilter(kindOf(kind), expression)({ alias: identifier('t0'), depth: 0, visible }));
}

function failure(kind: KindName, text: string): FilterError {
  try {
    compiled(kind, text);
  } catch (error) {
    if (error instanceof FilterError) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

describe('the types of fields', () => {
  it.each<[KindName, string, number, string]>([
    ['volume', 'sizeGib > "abc"', 10, 'expected an integer for sizeGib, found "abc"'],
    ['volume', 'sizeGib > abc', 10, 'expected an integer for sizeGib, found `abc`'],
    ['volume', 'sizeGib > 1.5', 10, 'expected an integer'],
    ['volume', 'sizeGib = 99999999999999999999', 10, 'expected an integer'],
    ['storagePool', 'overprovision > high', 16, 'expected a number'],
    ['instance', 'hostId = host-1', 9, 'expected a UUID for hostId'],
    ['instance', 'hostId < x', 9, 'has no order'],
    ['instance', 'state = runing', 8, 'expected one of creating, running'],
    ['instance', 'state > running', 8, 'has no order'],
    ['instance', 'deleteProtection = yes', 19, 'expected true or false'],
    ['instance', 'createdAt > yesterday', 12, 'expected an instant such as 2026-01-31T12:00:00Z'],
    ['instance', 'createdAt > 2026-02-30', 12, 'expected an instant'],
    ['instance', 'createdAt > 2026-01-01T24:00:00Z', 12, 'expected an instant'],
    ['instance', 'createdAt > 0000-01-01', 12, 'expected an instant'],
    ['instance', `keyPairIds = "${A}"`, 13, 'keyPairIds is a list'],
    ['instance', 'keyPairIds:x', 11, 'expected a UUID'],
    ['instance', 'source = x', 9, 'source is an object'],
    ['instance', 'source.volumeID = x', 7, 'did you mean volumeId'],
    ['instance', 'labels = x', 9, 'labels is a map'],
    ['instance', 'vcpus < null', 8, 'null is compared with = or != only'],
    ['instance', 'name.x = 1', 5, 'name has no field `x`'],
    ['securityGroup', 'rules.protocol = tcp', 6, 'rules is a list'],
    ['securityGroup', 'rules:tcp', 6, 'rules is a list of objects'],
    ['securityGroup', 'rules:(protocol = tpc)', 18, 'expected one of any, tcp, udp, icmp'],
    ['securityGroup', 'rules:(fromPort > x)', 18, 'expected an integer'],
    ['instance', 'vcpus = 1 labels:(env = x)', 10, 'labels is not a list'],
    ['instance', 'vcpus:(x = 1)', 0, 'vcpus has no parts'],
    ['operation', '"web"', 0, 'has no name to search'],
  ])('%s: %s fails at column %i', (kind, text, position, message) => {
    const error = failure(kind, text);
    expect(error.message).toContain(message);
    expect(error.position).toBe(position);
  });

  it.each([
    'createdAt >= 2026-01-31',
    'createdAt < "2026-01-31T12:00:00.123456Z"',
    'createdAt < 2026-01-31T12:00:00+02:00',
    'createdAt < 2024-02-29T00:00Z',
    'vcpus = "4"',
    'memoryMib != null',
    `hostId = ${A.toUpperCase()}`,
    'deleteProtection = true',
    'labels.env != "x"',
    'observed.disks:(bytes > 5)',
  ])('%s is accepted', (text) => {
    expect(compiled('instance', text).text).not.toBe('');
  });

  it('names the fields most like an unknown one', () => {
    const error = failure('volume', 'state = ready sizegb > 1');
    expect(error.position).toBe(14);
    expect(error.message).toMatch(/`sizegb` is no field of volume; did you mean sizeGib/);
    expect(failure('instance', 'hosts.name = x').message).toContain('host');
    expect(failure('instance', 'host.clustr.name = x').message).toContain('no field of host; did you mean cluster');
  });

  it('hidden fields and fields of Object are unknown', () => {
    expect(failure('apiKey', 'secretHash = x').message).toContain('is no field of apiKey');
    expect(failure('apiKey', 'secretHash = x').message).not.toMatch(/did you mean.*secretHash/);
    expect(failure('user', 'apiKeys:(secretHash = "x*")').message).toContain('is no field of apiKey');
    expect(failure('instance', 'userData:password').message).toContain('is no field');
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      expect(failure('instance', `${name} = x`).message).toContain('is no field');
      expect(failure('instance', `source.${name} = x`).message).toContain('is no field');
    }
  });
});

describe('what comes from outside is never text of a statement', () => {
  const attacks = [
    `x'; DROP TABLE "instance"; --`,
    `" OR 1=1 --`,
    `\\'; SELECT pg_sleep(10); --`,
    '$1) OR TRUE --',
    '%_\\',
    'ü\u2028\u{1f600}',
  ];

  it.each(attacks)('value %j', (attack) => {
    const quoted = `"${attack.replace(/[\\"]/g, '\\$&')}"`;
    for (const text of [
      `name = ${quoted}`,
      `name:${quoted}`,
      `labels.env = ${quoted}`,
      `labels:${quoted}`,
      `observed.a = ${quoted}`,
      quoted,
    ]) {
      const statement = compiled('instance', text);
      expect(statement.text).toBe(compiled('instance', text.replace(quoted, '"safe"')).text);
      expect(statement.text).not.toContain(attack);
    }
  });

  it.each(attacks)('key %j', (attack) => {
    const key = `"${attack.replace(/[\\"]/g, '\\$&')}"`;
    for (const path of [`labels.${key}`, `observed.${key}`, `observed.x.${key}`]) {
      expect(compiled('instance', `${path} = 1`).text).toBe(compiled('instance', `${path.replace(key, 'k')} = 1`).text);
    }
  });

  it('names are those of the model, whatever they look like', () => {
    expect(() => identifier('a"b')).toThrow();
    expect(() => identifier('a b')).toThrow();
    expect(() => identifier('')).toThrow();
    expect(failure('instance', 'id/**/ = 1').position).toBe(3);
  });

  it('an object that looks like a fragment stays a value', () => {
    const forged = JSON.parse('{"texts":["FALSE OR TRUE"],"values":[]}');
    expect(render(sql`SELECT ${forged}`)).toMatchObject({ text: 'SELECT $1', values: [forged] });
  });

  it('LIKE takes only the asterisks at the ends for wildcards', () => {
    const pattern = (text: string) => compiled('instance', text).values.at(-1);
    expect(pattern('name = "100%_\\\\*"')).toBe('100\\%\\_\\\\%');
    expect(pattern('name = *a*b*')).toBe('%a*b%');
    expect(pattern('name = *')).toBe('%');
    expect(pattern('name:50%')).toBe('%50\\%%');
    expect(compiled('instance', 'name = "\\*"')).toMatchObject({ text: '"t0"."name" = $1::text', values: ['*'] });
  });
});

describe('relations', () => {
  it('lead both ways, and through lists of ids', () => {
    const names = (kind: KindName) => [...relationsOf(kindOf(kind)).keys()];
    expect(names('instance')).toEqual(
      expect.arrayContaining(['host', 'zone', 'project', 'instanceType', 'keyPairs', 'volumes', 'networkInterfaces']),
    );
    expect(names('host')).toEqual(expect.arrayContaining(['cluster', 'instances']));
    expect(names('volume')).toEqual(expect.arrayContaining(['snapshots', 'pool', 'instance']));
    expect(names('securityGroup')).toContain('networkInterfaces');
    // Both hostId and lastHostId refer to a host; its instances are those that run there.
    expect(relationsOf(kindOf('host')).get('instances')?.field).toBe('hostId');
  });

  it('are sub-queries that find only living, visible resources', () => {
    const visible: Visible = (kind, alias) =>
      kind.name === 'host'
        ? sql`FALSE`
        : kind.scope === 'project'
          ? sql`${alias}."projectId" = ANY(${[A]}::uuid[])`
          : null;
    expect(compiled('instance', 'host.cluster.zoneId != null', visible).text).toBe(
      'EXISTS (SELECT 1 FROM "host" AS "t1" WHERE ("t1"."id" = "t0"."hostId" AND "t1"."deletedAt" IS NULL AND (FALSE) AND ' +
        'EXISTS (SELECT 1 FROM "cluster" AS "t2" WHERE ("t2"."id" = "t1"."clusterId" AND "t2"."deletedAt" IS NULL AND "t2"."zoneId" IS NOT NULL))))',
    );
    expect(compiled('instance', 'volumes:(sizeGib > 100)', visible)).toMatchObject({
      text:
        'EXISTS (SELECT 1 FROM "volume" AS "t1" WHERE ("t1"."instanceId" = "t0"."id" AND "t1"."deletedAt" IS NULL AND ' +
        '("t1"."projectId" = ANY($1::uuid[])) AND "t1"."sizeGib" > $2::bigint))',
      values: [[A], '100'],
    });
  });

  it('of several resources are asked with `:`', () => {
    expect(failure('instance', 'volumes.sizeGib > 100').message).toContain('volumes:(sizeGib > …)');
    expect(failure('instance', 'volumes = 1').message).toContain('volumes:(…)');
    expect(failure('instance', 'host = 1').message).toContain('host.id');
    expect(compiled('instance', 'volumes.role:root').text).toContain('EXISTS');
    expect(compiled('instance', 'volumes:*').text).toContain('TRUE');
    expect(compiled('instance', 'host:(enabled = true cluster.podId != null)').text).toContain('"t2"');
  });

  it('may be followed a bounded number of times', () => {
    const around = (times: number): string =>
      times === 0 ? 'name = x' : `${times % 2 === 0 ? 'host' : 'instances'}:(${around(times - 1)})`;
    expect(compiled('instance', around(4)).text).toContain('"t4"');
    expect(failure('instance', `instanceType.name = x ${around(6)}`).message).toContain('4 relations in a row');
    expect(failure('instance', Array(17).fill('host.name = x').join(' ')).message).toContain('16 relations');
  });
});

describe('statements', () => {
  it('of equal shape have equal texts and names', () => {
    const one = compiled('instance', 'state = running AND host.name = "a" AND labels.env = x');
    const two = compiled('instance', "  state=stopped   host.name='b' labels.tier=y");
    expect(two.text).toBe(one.text);
    expect(two.name).toBe(one.name);
    expect(one.name).toMatch(/^q_[0-9a-f]{24}$/);
    expect(two.values).toEqual(['stopped', 'b', '{"tier":"y"}']);
  });
});
