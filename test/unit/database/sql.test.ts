import { expect, it } from 'vitest';
import { and, identifier, join, or, raw, render, sql } from '../../../database/sql.ts';

it('numbers parameters through all fragments', () => {
  const inner = sql`${identifier('b')} = ${2}`;
  const all = sql`SELECT ${1} WHERE ${and([inner, sql`c = ${3}`, raw('d')])} AND ${join([sql`${4}`, sql`${5}`])}`;
  expect(render(all)).toMatchObject({
    text: 'SELECT $1 WHERE ("b" = $2 AND c = $3 AND d) AND $4, $5',
    values: [1, 2, 3, 4, 5],
  });
});

it('fragments can be used again and are not changed by it', () => {
  const part = sql`x = ${1}`;
  expect(render(sql`${part} OR ${part}`)).toMatchObject({ text: 'x = $1 OR x = $2', values: [1, 1] });
  expect(render(part)).toMatchObject({ text: 'x = $1', values: [1] });
  expect(Object.isFrozen(part)).toBe(true);
});

it('nothing joined is TRUE for and, FALSE for or', () => {
  expect(render(and([])).text).toBe('TRUE');
  expect(render(or([])).text).toBe('FALSE');
  expect(render(join([])).text).toBe('');
});

it('null and undefined are values like others', () => {
  expect(render(sql`${null} ${undefined}`).values).toEqual([null, undefined]);
});

it('no more than a thousand texts of callers get a name, ours always do', () => {
  const first = render(raw('-- 0'));
  for (let at = 1; at < 1100; at++) render(raw(`-- ${at}`));
  expect(render(raw('-- new'))).toMatchObject({ name: '' });
  expect(render(raw('-- 0')).name).toBe(first.name);
  expect(render(raw('-- ours'), { lasting: true }).name).toMatch(/^q_/);
});
