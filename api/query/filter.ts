/**
 * Filters of lists, in the language of AIP-160 (https://google.aip.dev/160).
 *
 *     expression  = sequence { "AND" sequence }
 *     sequence    = factor { factor }                       juxtaposition means AND
 *     factor      = term { "OR" term }                      OR binds tighter than AND
 *     term        = [ "NOT" | "-" ] ( "(" expression ")" | restriction | text in quotes )
 *     restriction = path ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value
 *                 | path ":" "(" expression ")"             some related resource or element matches
 *     path        = name { "." ( name | text in quotes ) }
 *     value       = text in quotes | word                   a word ends at white space, parenthesis, comma or quote
 *
 * The parser knows nothing of kinds; what names and values mean is decided in `compile.ts`.
 */

/** A filter that can not be understood; `position` is the column, counted from 0, where reading stopped. */
export class FilterError extends Error {
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.name = 'FilterError';
    this.position = position;
  }
}

export type Comparator = '=' | '!=' | '<' | '<=' | '>' | '>=' | ':';

export interface Segment {
  name: string;
  position: number;
}

export interface Value {
  /** What was written, without quotes and escapes, wildcards still in it. */
  text: string;
  /** In quotes it is always text; a bare word may be a number, `true`, `null` … where the field allows that. */
  quoted: boolean;
  /** It begins, or ends, with an asterisk that is not escaped. */
  openStart: boolean;
  openEnd: boolean;
  position: number;
}

export type Expression =
  | { type: 'and' | 'or'; parts: Expression[] }
  | { type: 'not'; part: Expression }
  | { type: 'comparison'; path: Segment[]; comparator: Comparator; value: Value; position: number }
  | { type: 'some'; path: Segment[]; condition: Expression; position: number }
  | { type: 'search'; value: Value };

/** What a filter may cost: each term is a condition that the database checks per row. */
const LENGTH_LIMIT = 4096;
const TERM_LIMIT = 64;
const DEPTH_LIMIT = 16;
const PATH_LIMIT = 8;

const COMPARATORS: readonly Comparator[] = ['!=', '<=', '>=', '=', '<', '>', ':'];
/** PostgreSQL stores neither NUL nor a surrogate without its other half, so nothing could ever match it. */
const UNSTORABLE = /\0|\p{Surrogate}/u;
const KEYWORDS: readonly string[] = ['AND', 'OR', 'NOT'];
const SPACE = /\s/;
const NAME = /[A-Za-z0-9_/-]/;
const WORD_END = /[\s(),"']/;

/** Parses a filter; null for one that is empty. Throws FilterError. */
export function parseFilter(text: string): Expression | null {
  if (text.length > LENGTH_LIMIT) {
    throw new FilterError(`a filter has at most ${LENGTH_LIMIT} characters, this one has ${text.length}`, LENGTH_LIMIT);
  }
  const unstorable = text.search(UNSTORABLE);
  if (unstorable >= 0) throw new FilterError('expected text, found NUL or half a character', unstorable);
  const reader: Reader = { text, at: 0, terms: 0 };
  skipSpace(reader);
  if (atEnd(reader)) return null;
  const expression = readExpression(reader, 0);
  if (!atEnd(reader)) throw unexpected(reader, 'a comparison, AND, OR or the end');
  return expression;
}

interface Reader {
  readonly text: string;
  at: number;
  terms: number;
}

const atEnd = (reader: Reader): boolean => reader.at >= reader.text.length;
const peek = (reader: Reader): string => reader.text.charAt(reader.at);

function skipSpace(reader: Reader) {
  while (!atEnd(reader) && SPACE.test(peek(reader))) reader.at += 1;
}

function unexpected(reader: Reader, wanted: string): FilterError {
  const word = /^(?:[A-Za-z0-9_]+|\S)/.exec(reader.text.slice(reader.at, reader.at + 40))?.[0];
  const found = atEnd(reader) ? 'the end' : `\`${word ?? peek(reader)}\``;
  return new FilterError(`expected ${wanted}, found ${found}`, reader.at);
}

/** Whether the word stands here, as a word of its own. */
function seesWord(reader: Reader, word: string): boolean {
  if (!reader.text.startsWith(word, reader.at)) return false;
  const next = reader.text.charAt(reader.at + word.length);
  return next === '' || SPACE.test(next) || next === '(' || next === ')' || next === '"' || next === "'";
}

function takesWord(reader: Reader, word: string): boolean {
  if (!seesWord(reader, word)) return false;
  reader.at += word.length;
  skipSpace(reader);
  return true;
}

const group = (type: 'and' | 'or', parts: Expression[]): Expression => {
  const [only] = parts;
  return only !== undefined && parts.length === 1 ? only : { type, parts };
};

function readExpression(reader: Reader, depth: number): Expression {
  if (depth > DEPTH_LIMIT) throw new FilterError(`parentheses may be nested ${DEPTH_LIMIT} deep`, reader.at);
  const factors: Expression[] = [];
  do {
    do factors.push(readFactor(reader, depth));
    while (!atEnd(reader) && peek(reader) !== ')' && !seesWord(reader, 'AND'));
  } while (takesWord(reader, 'AND'));
  return group('and', factors);
}

function readFactor(reader: Reader, depth: number): Expression {
  const terms = [readTerm(reader, depth)];
  while (takesWord(reader, 'OR')) terms.push(readTerm(reader, depth));
  return group('or', terms);
}

function readTerm(reader: Reader, depth: number): Expression {
  let negated = false;
  if (takesWord(reader, 'NOT')) negated = true;
  else if (peek(reader) === '-') {
    reader.at += 1;
    negated = true;
  }
  const part = readSimple(reader, depth);
  return negated ? { type: 'not', part } : part;
}

function readSimple(reader: Reader, depth: number): Expression {
  if (peek(reader) === '(') return readParenthesis(reader, depth);
  reader.terms += 1;
  if (reader.terms > TERM_LIMIT) throw new FilterError(`a filter has at most ${TERM_LIMIT} comparisons`, reader.at);
  if (peek(reader) === '"' || peek(reader) === "'") {
    const value = readQuoted(reader);
    skipSpace(reader);
    return { type: 'search', value };
  }
  return readRestriction(reader, depth);
}

function readParenthesis(reader: Reader, depth: number): Expression {
  reader.at += 1;
  skipSpace(reader);
  const inner = readExpression(reader, depth + 1);
  if (peek(reader) !== ')') throw unexpected(reader, '`)`');
  reader.at += 1;
  skipSpace(reader);
  return inner;
}

function readRestriction(reader: Reader, depth: number): Expression {
  const position = reader.at;
  const path = readPath(reader);
  skipSpace(reader);
  const comparator = COMPARATORS.find((symbol) => reader.text.startsWith(symbol, reader.at));
  if (comparator === undefined) {
    const word = /^(?:and|or|not)$/i.exec(path[0]?.name ?? '')?.[0].toUpperCase();
    if (word) throw new FilterError(`${word} is written in capitals`, position);
    throw unexpected(reader, 'one of = != < <= > >= :');
  }
  reader.at += comparator.length;
  skipSpace(reader);
  if (comparator === ':' && peek(reader) === '(') {
    return { type: 'some', path, condition: readParenthesis(reader, depth), position };
  }
  const value = readValue(reader);
  skipSpace(reader);
  return { type: 'comparison', path, comparator, value, position };
}

function readPath(reader: Reader): Segment[] {
  if (KEYWORDS.some((keyword) => seesWord(reader, keyword))) throw unexpected(reader, 'the name of a field');
  const path: Segment[] = [readName(reader)];
  while (peek(reader) === '.') {
    reader.at += 1;
    const quoted = peek(reader) === '"' || peek(reader) === "'";
    const position = reader.at;
    path.push(quoted ? { name: readQuoted(reader).text, position } : readName(reader));
    if (path.length > PATH_LIMIT) throw new FilterError(`a path has at most ${PATH_LIMIT} names`, position);
  }
  return path;
}

function readName(reader: Reader): Segment {
  const position = reader.at;
  while (!atEnd(reader) && NAME.test(peek(reader))) reader.at += 1;
  if (reader.at === position) throw unexpected(reader, 'the name of a field');
  return { name: reader.text.slice(position, reader.at), position };
}

function readValue(reader: Reader): Value {
  if (peek(reader) === '"' || peek(reader) === "'") return readQuoted(reader);
  const position = reader.at;
  while (!atEnd(reader) && !WORD_END.test(peek(reader))) reader.at += 1;
  const text = reader.text.slice(position, reader.at);
  if (text === '' || /^[=<>!:]/.test(text) || KEYWORDS.includes(text)) {
    reader.at = position;
    throw unexpected(reader, 'a value (in quotes if it is text)');
  }
  return { text, quoted: false, openStart: text.startsWith('*'), openEnd: text.endsWith('*'), position };
}

/** Text in quotes of either sort; a backslash takes the next character as it is, so that `\*` is no wildcard. */
function readQuoted(reader: Reader): Value {
  const position = reader.at;
  const quote = peek(reader);
  let text = '';
  let openStart = false;
  let openEnd = false;
  reader.at += 1;
  while (peek(reader) !== quote) {
    if (atEnd(reader)) throw new FilterError(`expected the closing ${quote} of this text, found the end`, position);
    const escaped = peek(reader) === '\\';
    if (escaped) reader.at += 1;
    const character = peek(reader);
    openEnd = character === '*' && !escaped;
    if (text === '') openStart = openEnd;
    text += character;
    reader.at += 1;
  }
  reader.at += 1;
  return { text, quoted: true, openStart, openEnd, position };
}
