import { describe, expect, it } from 'vitest';
import { type Expression, FilterError, parseFilter } from '../../../api/query/filter.ts';

/** The tree as text with all parentheses, to compare precedence at a glance. */
function shape(expression: Expression | null): string {
  if (expression === null) return '';
  switch (expression.type) {
    case 'and':
    case 'or':
      return `(${expression.parts.map(shape).join(expression.type === 'and' ? ' & ' : ' | ')})`;
    case 'not':
      return `!${shape(expression.part)}`;
    case 'comparison':
      return `${expression.path.map(({ name }) => name).join('.')}${expression.comparator}${expression.value.text}`;
    case 'some':
      return `${expression.path.map(({ name }) => name).join('.')}:[${shape(expression.condition)}]`;
    case 'search':
      return `"${expression.value.text}"`;
  }
}

const parsed = (text: string): string => shape(parseFilter(text));

function failure(text: string): FilterError {
  try {
    parseFilter(text);
  } catch (error) {
    if (error instanceof FilterError) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

describe('the grammar of filters', () => {
  it.each([
    ['', ''],
    ['   ', ''],
    ['a=1', 'a=1'],
    ['a = 1 AND b = 2', '(a=1 & b=2)'],
    ['a=1 b=2', '(a=1 & b=2)'],
    ['a=1 OR b=2', '(a=1 | b=2)'],
    ['NOT a=1', '!a=1'],
    ['-a=1', '!a=1'],
    ['NOT (a=1 OR b=2)', '!(a=1 | b=2)'],
    ['-(a=1 b=2)', '!(a=1 & b=2)'],
    ['a!=1 b<1 c<=1 d>1 e>=1 f:1', '(a!=1 & b<1 & c<=1 & d>1 & e>=1 & f:1)'],
    ['a.b.c = x', 'a.b.c=x'],
    ['labels."app.kubernetes.io/name" = web', 'labels.app.kubernetes.io/name=web'],
    ['labels.my-key = x', 'labels.my-key=x'],
    ['volumes:(sizeGib > 100)', 'volumes:[sizeGib>100]'],
    ['volumes:(sizeGib > 100 OR role = root)', 'volumes:[(sizeGib>100 | role=root)]'],
    ['host.instances:(NOT state=running)', 'host.instances:[!state=running]'],
    ['"web server"', '"web server"'],
    ['a=1\n\tAND\n\tb=2', '(a=1 & b=2)'],
    ['((a=1))', 'a=1'],
  ])('%j is read as %j', (text, expected) => {
    expect(parsed(text)).toBe(expected);
  });

  it('OR binds tighter than AND, as AIP-160 has it', () => {
    expect(parsed('a=1 AND b=2 OR c=3')).toBe('(a=1 & (b=2 | c=3))');
    expect(parsed('a=1 OR b=2 AND c=3')).toBe('((a=1 | b=2) & c=3)');
    expect(parsed('a=1 b=2 OR c=3')).toBe('(a=1 & (b=2 | c=3))');
    expect(parsed('(a=1 AND b=2) OR c=3')).toBe('((a=1 & b=2) | c=3)');
    expect(parsed('NOT a=1 OR b=2')).toBe('(!a=1 | b=2)');
  });

  it.each([
    ['mac = fa:16:3e:00:00:01', 'mac=fa:16:3e:00:00:01'],
    ['cidr = 10.0.0.0/8', 'cidr=10.0.0.0/8'],
    ['createdAt > 2026-01-31T12:00:00Z', 'createdAt>2026-01-31T12:00:00Z'],
    ['a = -5', 'a=-5'],
    ['(a=x)', 'a=x'],
  ])('a bare value may hold what addresses and instants hold: %s', (text, expected) => {
    expect(parsed(text)).toBe(expected);
  });

  it('takes quotes of both sorts, and escapes within them', () => {
    expect(parseFilter(`a = "it's \\"so\\" \\\\"`)).toMatchObject({ value: { text: `it's "so" \\`, quoted: true } });
    expect(parseFilter(`a = 'a "b"'`)).toMatchObject({ value: { text: 'a "b"' } });
    expect(parseFilter('a = ""')).toMatchObject({
      value: { text: '', quoted: true, openStart: false, openEnd: false },
    });
  });

  it('tells wildcards from asterisks that are meant', () => {
    expect(parseFilter('a = "web*"')).toMatchObject({ value: { openStart: false, openEnd: true } });
    expect(parseFilter('a = *web')).toMatchObject({ value: { openStart: true, openEnd: false } });
    expect(parseFilter('a = "we*b"')).toMatchObject({ value: { openStart: false, openEnd: false } });
    expect(parseFilter('a = "\\*web\\*"')).toMatchObject({
      value: { text: '*web*', openStart: false, openEnd: false },
    });
  });
});

describe('what is no filter', () => {
  it.each([
    ['a', 1, 'expected one of = != < <= > >= :, found the end'],
    ['a =', 3, 'expected a value (in quotes if it is text), found the end'],
    ['a == 1', 3, 'expected a value'],
    ['a <> 1', 3, 'expected a value'],
    ['= 1', 0, 'expected the name of a field, found `=`'],
    ['a=1 AND', 7, 'expected the name of a field, found the end'],
    ['a=1 AND AND b=2', 8, 'expected the name of a field, found `AND`'],
    ['a=1 OR', 6, 'found the end'],
    ['OR a=1', 0, 'found `OR`'],
    ['a = AND', 4, 'found `AND`'],
    ['a=1 and b=2', 4, 'AND is written in capitals'],
    ['(a=1', 4, 'expected `)`, found the end'],
    ['a=1)', 3, 'found `)`'],
    ['()', 1, 'expected the name of a field, found `)`'],
    ['a="x', 2, 'expected the closing " of this text'],
    ["a='x\\'", 2, "closing '"],
    ['a..b=1', 2, 'expected the name of a field, found `.`'],
    ['a.=1', 2, 'expected the name of a field'],
    ['a:()', 3, 'found `)`'],
    ['a=1,b=2', 3, 'found `,`'],
    ['état = 1', 0, 'expected the name of a field, found `é`'],
    ['a = "x\0"', 6, 'NUL'],
    ['a = "\ud800"', 5, 'half a character'],
    ['a = "\u{1f600}\udc00"', 7, 'half a character'],
    ['a; DROP TABLE instance', 1, 'found `;`'],
  ])('%j fails at column %i', (text, position, message) => {
    const error = failure(text);
    expect(error.position).toBe(position);
    expect(error.message).toContain(message);
  });

  it('is bounded in length, terms, depth and path', () => {
    expect(failure(`a="${'x'.repeat(4096)}"`).message).toContain('4096');
    expect(parseFilter(Array(64).fill('a=1').join(' '))).toMatchObject({ type: 'and' });
    expect(failure(Array(65).fill('a=1').join(' ')).message).toContain('64');
    expect(parsed(`${'('.repeat(16)}a=1${')'.repeat(16)}`)).toBe('a=1');
    expect(failure(`${'('.repeat(17)}a=1${')'.repeat(17)}`).message).toContain('16');
    expect(failure(`${Array(9).fill('a').join('.')}=1`).message).toContain('8');
  });

  it('answers any text quickly with a tree or a FilterError', () => {
    const alphabet = [
      'a',
      '.',
      '=',
      ':',
      '(',
      ')',
      '"',
      "'",
      '\\',
      '*',
      '-',
      ' ',
      'AND',
      'OR',
      'NOT',
      '1',
      '<',
      '!',
      '%',
      '\u{1f600}',
    ];
    let seed = 7;
    const next = (limit: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed % limit;
    };
    for (let round = 0; round < 5000; round++) {
      const text = Array.from({ length: next(24) }, () => alphabet[next(alphabet.length)]).join('');
      try {
        parseFilter(text);
      } catch (error) {
        expect(error).toBeInstanceOf(FilterError);
        const { position } = error as FilterError;
        expect(position).toBeGreaterThanOrEqual(0);
        expect(position).toBeLessThanOrEqual(text.length);
      }
    }
  });
});
