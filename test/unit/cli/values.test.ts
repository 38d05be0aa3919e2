import { describe, expect, it } from 'vitest';
import { referredKind, resourcesOf } from '../../../cli/document.ts';
import { cellOf, table, valueAt, widthOf, yaml } from '../../../cli/output.ts';
import { painter, printable } from '../../../cli/terminal.ts';
import { optionValue, propertiesOf, secondsOf, setAt } from '../../../cli/values.ts';
import { document } from './api.ts';

const properties = (schema: string) => propertiesOf(document, document.components.schemas[schema] ?? {});

function value(schema: string, flag: string, ...texts: string[]): unknown {
  const property = properties(schema).find((candidate) => candidate.flag === flag);
  if (!property) throw new Error(`no ${flag}`);
  return texts.reduce<unknown>(
    (previous, text) => optionValue(property, text, previous, (path) => `text of ${path}`),
    undefined,
  );
}

describe('values of options', () => {
  it.each<[string, string, string[], unknown]>([
    ['VolumeCreate', 'size-gib', ['10'], 10],
    ['ClusterCreate', 'vcpu-overcommit', ['1.5'], 1.5],
    ['ZoneCreate', 'dns-servers', ['10.0.0.2,10.0.0.3', '10.0.0.4'], ['10.0.0.2', '10.0.0.3', '10.0.0.4']],
    ['ZoneCreate', 'dns-servers', [''], []],
    ['ZoneCreate', 'dns-servers', ['["10.0.0.2"]'], ['10.0.0.2']],
    ['StorageClusterCreate', 'monitors', ['[v2:10.0.0.2:3300]'], ['[v2:10.0.0.2:3300]']],
    ['ZoneCreate', 'labels', ['env=prod,url=a=b', 'tier=web'], { env: 'prod', url: 'a=b', tier: 'web' }],
    ['ZoneCreate', 'labels', ['{"a":"b,c"}'], { a: 'b,c' }],
    ['InstanceCreate', 'source', ['{"imageId":"debian"}'], { imageId: 'debian' }],
    ['InstanceCreate', 'root-volume', ['size-gib=20,keepOnDelete=true'], { sizeGib: 20, keepOnDelete: true }],
    ['InstanceCreate', 'root-volume.size-gib', ['20'], 20],
    [
      'InstanceCreate',
      'data-volumes',
      ['sizeGib=1', '[{"sizeGib":2},{"sizeGib":3}]'],
      [{ sizeGib: 1 }, { sizeGib: 2 }, { sizeGib: 3 }],
    ],
    [
      'InstanceCreate',
      'network-interfaces',
      ['subnetId=a,securityGroupIds=x,securityGroupIds=y'],
      [{ subnetId: 'a', securityGroupIds: ['x', 'y'] }],
    ],
    ['InstanceCreate', 'user-data', ['@cloud.yaml'], 'text of cloud.yaml'],
    ['InstanceCreate', 'user-data', ['@@home'], '@home'],
    ['SettingUpdate', 'value', ['12'], 12],
    ['SettingUpdate', 'value', ['word'], 'word'],
    ['SettingUpdate', 'value', ['{"a":[1]}'], { a: [1] }],
  ])('%s --%s %j is %j', (schema, flag, texts, expected) => {
    expect(value(schema, flag, ...texts)).toEqual(expected);
  });

  it.each<[string, string, string, RegExp]>([
    ['VolumeCreate', 'size-gib', '1.5', /takes a whole number/],
    ['VolumeCreate', 'size-gib', '', /takes a number/],
    ['ZoneCreate', 'labels', 'env', /takes key=value/],
    ['InstanceCreate', 'source', '{', /is no JSON/],
    ['InstanceCreate', 'root-volume', 'size=1', /has no property size; there are sizeGib/],
  ])('%s --%s %j is refused', (schema, flag, text, message) => {
    expect(() => value(schema, flag, text)).toThrow(message);
  });

  it('objects are merged with what is set inside them', () => {
    const body = { source: { imageId: 'a' } };
    setAt(body, ['source', 'volumeId'], 'b');
    setAt(body, ['rootVolume', 'sizeGib'], 1);
    expect(body).toEqual({ source: { imageId: 'a', volumeId: 'b' }, rootVolume: { sizeGib: 1 } });
  });

  it('times have units', () => {
    expect(['90', '90s', '5m', '2h'].map(secondsOf)).toEqual([90, 90, 300, 7200]);
    expect(() => secondsOf('soon')).toThrow(/takes seconds/);
  });

  it('every reference that a body of the document can name leads to its kind', () => {
    const resources = resourcesOf(document);
    const loose = resources.flatMap((resource) =>
      resource.verbs.flatMap(({ name, body }) =>
        propertiesOf(document, body?.schema ?? {})
          .filter(({ schema, path }) => schema.format === 'uuid' && path.at(-1) !== 'requestedId')
          .filter(({ path }) => !referredKind(path.at(-1) ?? '', resources, resource.kind))
          .map(({ flag }) => `${resource.plural} ${name} --${flag}`),
      ),
    );
    // These say in another property what they refer to.
    expect(loose).toEqual([
      'role-bindings create --subject-id',
      'role-bindings create --target-id',
      'quotas create --scope-id',
      'vpcs detach-uplink --uplink-id',
      'networks remove-stray --id',
      'findings scan --id',
    ]);
    const kind = (property: string, siblings = {}) => referredKind(property, resources, 'snapshot', siblings)?.kind;
    expect(kind('rootVolumeTypeId')).toBe('volumeType');
    expect(kind('storageClusterId')).toBe('storageCluster');
    expect(kind('clusterIds')).toBe('cluster');
    expect(kind('requestedHostId')).toBe('host');
    expect(kind('targetId', { targetKind: 'project' })).toBe('project');
    expect(kind('targetId', { targetKind: 'platform' })).toBeUndefined();
    expect(kind('requestedId')).toBeUndefined();
  });
});

describe('tables', () => {
  const plain = painter({ isTTY: false } as never, {});

  it('are aligned by what the terminal shows', () => {
    expect(widthOf('日本')).toBe(4);
    expect(widthOf('e\u0301')).toBe(1);
    expect(
      table(
        [
          { name: '日本', n: 1 },
          { name: 'a', n: null },
        ],
        ['name', 'n'],
        plain,
      ),
    ).toBe('name  n\n日本  1\na     -\n');
  });

  it('have no colours without a terminal, and none with NO_COLOR', () => {
    const tty = { isTTY: true } as never;
    const rows = [{ state: 'failed' }];
    expect(table(rows, ['state'], plain)).toBe('state\nfailed\n');
    expect(table(rows, ['state'], painter(tty, {}))).toContain('\u001b[31mfailed');
    expect(table(rows, ['state'], painter(tty, { NO_COLOR: '1' }))).toBe('state\nfailed\n');
  });

  it('a name can not steer the terminal', () => {
    expect(cellOf('a\u001b[2Jb\nc\u202ed')).toBe('a\ufffd[2Jb\ufffdc\ufffdd');
    expect(printable('plain ä 日本')).toBe('plain ä 日本');
    expect(cellOf({ k: '\u001b' })).not.toContain('\u001b');
  });

  it('cells are one line', () => {
    expect(cellOf('2026-01-02T03:04:05.123456Z')).toBe('2026-01-02 03:04:05Z');
    expect([null, '', [], {}].map(cellOf)).toEqual(['-', '-', '-', '-']);
    expect(cellOf(['a', 'b'])).toBe('a,b');
    expect(cellOf({ a: 1, b: 'x' })).toBe('a=1,b=x');
    expect(cellOf({ a: { b: 1 } })).toBe('{"a":{"b":1}}');
    expect(cellOf(false)).toBe('false');
  });

  it('a dotted name finds labels with dots', () => {
    expect(valueAt({ labels: { 'example.com/tier': 'web' } }, 'labels.example.com/tier')).toBe('web');
    expect(valueAt({ a: null }, 'a.b')).toBeUndefined();
  });
});

describe('YAML', () => {
  it('holds what JSON holds', () => {
    const told = yaml({
      id: 'a-1',
      count: 1,
      on: 'no',
      empty: {},
      none: [],
      null: null,
      text: 'two\nlines: #',
      list: [{ a: 1, b: [true] }, 'x', [1]],
    });
    expect(told).toBe(
      [
        'id: a-1',
        'count: 1',
        '"on": "no"',
        'empty: {}',
        'none: []',
        '"null": null',
        'text: "two\\nlines: #"',
        'list:',
        '  - a: 1',
        '    b:',
        '      - true',
        '  - x',
        '  - - 1',
      ].join('\n'),
    );
  });
});
