import { describe, expect, it } from 'vitest';
import { type ListQuery, ProblemInput, parseGetQuery, parseListQuery } from '../../../api/query/parse.ts';
import { PageTokenError, readToken, writeToken } from '../../../api/query/token.ts';
import { columnsOf } from '../../../model/columns.ts';
import { kindOf } from '../../../model/kinds.ts';

const instance = kindOf('instance');
const ID = '00000000-0000-4000-8000-000000000001';

function problem(act: () => unknown): ProblemInput {
  try {
    act();
  } catch (error) {
    if (error instanceof ProblemInput) return error;
    throw error;
  }
  throw new Error('accepted');
}

describe('the parameters of a list', () => {
  it('have defaults: 50 a page, newest first', () => {
    expect(parseListQuery(instance, {})).toMatchObject({
      filter: null,
      orderBy: [
        { name: 'createdAt', descending: true },
        { name: 'id', descending: true },
      ],
      pageSize: 50,
      after: null,
      fields: null,
      count: 'none',
      showDeleted: false,
    });
  });

  it('may come from a query string or from JSON', () => {
    const text = parseListQuery(instance, { pageSize: '10', showDeleted: 'true', count: 'exact' });
    expect(parseListQuery(instance, { pageSize: 10, showDeleted: true, count: 'exact', filter: null })).toEqual(text);
  });

  it.each([
    [{ pageSize: '0' }, 'pageSize', 'from 1 to 500'],
    [{ pageSize: '501' }, 'pageSize', 'from 1 to 500'],
    [{ pageSize: '1e2' }, 'pageSize', 'from 1 to 500'],
    [{ pageSize: '-1' }, 'pageSize', 'from 1 to 500'],
    [{ pageSize: '' }, 'pageSize', 'from 1 to 500'],
    [{ pagesize: '5' }, 'pagesize', 'no such parameter'],
    [{ __proto__x: '5' }, '__proto__x', 'no such parameter'],
    [{ pageSize: ['1', '2'] }, 'pageSize', 'more than once'],
    [{ fields: { a: 1 } }, 'fields', 'expected text'],
    [{ fields: 'name,stat' }, 'fields', 'did you mean state'],
    [{ fields: 'name,' }, 'fields', 'is no field'],
    [{ orderBy: 'hostId' }, 'orderBy', 'can not order by hostId; there are createdAt'],
    [{ orderBy: 'name down' }, 'orderBy', 'expected asc or desc after name'],
    [{ orderBy: 'name desc asc' }, 'orderBy', 'expected asc or desc after name'],
    [{ orderBy: 'name,name desc' }, 'orderBy', 'name is named twice'],
    [{ orderBy: 'name,,state' }, 'orderBy', 'commas'],
    [{ count: 'about' }, 'count', 'none or exact'],
    [{ showDeleted: '1' }, 'showDeleted', 'true or false'],
  ])('%j is an invalid argument', (parameters, field, message) => {
    const { code, violations } = problem(() => parseListQuery(instance, parameters));
    expect(code).toBe('INVALID_ARGUMENT');
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatchObject({ field, message: expect.stringContaining(message) });
  });

  it('are all checked before any is complained of', () => {
    const { code, violations } = problem(() =>
      parseListQuery(instance, { filter: 'vcpus = x', pageSize: '0', what: '1', pageToken: 'zzz' }),
    );
    expect(code).toBe('MALFORMED_REQUEST');
    expect(violations.map(({ field }) => field).sort()).toEqual(['filter', 'pageSize', 'what']);
    expect(violations.find(({ field }) => field === 'filter')).toMatchObject({ position: 8 });
  });

  it('leave alone what the caller reads itself', () => {
    expect(parseListQuery(instance, { follow: 'true' }, ['follow']).pageSize).toBe(50);
    expect(parseGetQuery(instance, { waitSeconds: '5' }, ['waitSeconds'])).toEqual({
      fields: null,
      showDeleted: false,
    });
  });

  it('masks of the same fields are the same, with the id always', () => {
    expect(parseListQuery(instance, { fields: 'state, name' }).fields).toEqual(['id', 'name', 'state']);
    expect(parseListQuery(instance, { fields: 'name,state,id' }).fields).toEqual(['id', 'name', 'state']);
    expect(parseGetQuery(instance, { fields: '*' }).fields).toBeNull();
    expect(problem(() => parseGetQuery(kindOf('apiKey'), { fields: 'secretHash' })).code).toBe('INVALID_ARGUMENT');
  });

  it('order by several keys, id last in the direction of the last one', () => {
    expect(parseListQuery(instance, { orderBy: ' state ,  memoryMib desc' }).orderBy).toEqual([
      { name: 'state', descending: false },
      { name: 'memoryMib', descending: true },
      { name: 'id', descending: true },
    ]);
  });
});

describe('page tokens', () => {
  const parameters = { filter: 'state = running', orderBy: 'name' };
  const query = parseListQuery(instance, parameters);
  const token = writeToken(query.digest, JSON.stringify(['vm-1', ID]));
  const withToken = (more: Record<string, unknown>): ListQuery =>
    parseListQuery(instance, { ...parameters, pageToken: token, ...more });

  it('are text for URLs', () => {
    expect(token).toMatch(/^[A-Za-z0-9_-]+$/);
    expect(withToken({}).after).toEqual(['vm-1', ID]);
  });

  it('survive another page size, mask and count', () => {
    expect(withToken({ pageSize: '7', fields: 'name', count: 'exact' }).after).toEqual(['vm-1', ID]);
  });

  it.each([{ filter: 'state = stopped' }, { orderBy: 'name desc' }, { orderBy: 'state' }, { showDeleted: 'true' }])(
    'of another query are refused: %j',
    (more) => {
      const { code, violations } = problem(() => withToken(more));
      expect(code).toBe('MALFORMED_REQUEST');
      expect(violations).toMatchObject([{ field: 'pageToken', message: expect.stringContaining('another query') }]);
    },
  );

  it('of another kind are refused', () => {
    expect(
      problem(() => parseListQuery(kindOf('volume'), { ...parameters, filter: 'state = ready', pageToken: token }))
        .code,
    ).toBe('MALFORMED_REQUEST');
  });

  it.each([
    'x',
    '!!!',
    Buffer.from('null').toString('base64url'),
    Buffer.from('[]').toString('base64url'),
    writeToken(query.digest, '[]'),
    writeToken(query.digest, '["vm-1"]'),
    writeToken(query.digest, '["vm-1","not a uuid"]'),
    writeToken(query.digest, `[7,"${ID}"]`),
    writeToken(query.digest, `[null,"${ID}"]`),
    writeToken(query.digest, `["a\\u0000","${ID}"]`),
    writeToken(query.digest, `"ab"`),
    'A'.repeat(5000),
  ])('that were not made here are refused: %#', (forged) => {
    const { code, violations } = problem(() => withToken({ pageToken: forged }));
    expect(code).toBe('MALFORMED_REQUEST');
    expect(violations).toMatchObject([{ field: 'pageToken' }]);
    expect(() => readToken(forged, query.digest, columnsOf(instance).slice(0, 2))).toThrow(PageTokenError);
  });
});
