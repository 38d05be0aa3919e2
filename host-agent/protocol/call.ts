import type { Static, TObject, TProperties } from 'typebox';
import * as Type from 'typebox';
import { Compile, Errors, type Validator } from 'typebox/schema';
import { Problem } from '../problem.ts';

export type Nothing = Record<string, never>;

/** What an object with these fields is in TypeScript. */
export type Of<Fields extends TProperties> = keyof Fields extends never ? Nothing : Static<TObject<Fields>>;

/** One call or task: what it takes, what it answers, and how it is to be treated on its way. */
export interface Call<Input extends TProperties, Result extends TProperties, Changes extends boolean> {
  input: TObject<Input>;
  result: TObject<Result>;
  /** Whether it changes something on the host or on what it reaches: then only a step may make it, and it is stamped. */
  changes: Changes;
  /** How long its caller waits for the answer, unless it says otherwise. */
  timeoutMs: number;
  /** Whoever is asked watches something for a while before it answers: many such are under way at once, and none takes the way of the others. */
  watches: boolean;
}

export type AnyCall = Call<TProperties, TProperties, boolean>;

/** What the compiler knows of a call from its schemas. */
export type Signature<Declared> =
  Declared extends Call<infer Input, infer Result, infer Changes>
    ? { input: Of<Input>; result: Of<Result>; changes: Changes }
    : never;

const TIMEOUT_SECONDS = 30;

/**
 * An object with these fields and no others. Whoever is asked for something that it does not know must not do the rest of it: a field may be what
 * makes a call harmless.
 */
export const object = <Fields extends TProperties>(fields: Fields): TObject<Fields> =>
  Type.Object(fields, { additionalProperties: false });

/** A call or task that changes something. It answers nothing unless said. */
export function change<Input extends TProperties, Result extends TProperties = Record<never, never>>(
  input: Input,
  result?: Result,
  { timeoutSeconds = TIMEOUT_SECONDS }: { timeoutSeconds?: number } = {},
): Call<Input, Result, true> {
  return {
    input: object(input),
    result: object(result ?? ({} as Result)),
    changes: true,
    timeoutMs: timeoutSeconds * 1_000,
    watches: false,
  };
}

/** A call that changes nothing: whoever has a way to the host may make it. */
export function question<Input extends TProperties, Result extends TProperties>(
  input: Input,
  result: Result,
  { watches = false }: { watches?: boolean } = {},
): Call<Input, Result, false> {
  return { input: object(input), result: object(result), changes: false, timeoutMs: TIMEOUT_SECONDS * 1_000, watches };
}

/** Made at first use: a host is asked for few of its calls, and one that was made checks ten times as fast. */
const validators = new WeakMap<TObject, Validator>();

function validatorOf(schema: TObject): Validator {
  let validator = validators.get(schema);
  if (!validator) {
    validator = Compile(schema);
    validators.set(schema, validator);
  }
  return validator;
}

/** What a value has that its schema does not allow, or undefined. Names the member and what was expected, and never repeats a value. */
export function misfit(schema: TObject, value: unknown): string | undefined {
  if (validatorOf(schema).Check(value)) return undefined;
  const [, [first]] = Errors(schema, value);
  const member = first?.instancePath || 'the input';
  // The only schema that nothing fits is that of a field which is not declared.
  return first?.keyword === 'boolean' ? `${member} is not known` : `${member} ${first?.message ?? 'is wrong'}`;
}

/** @throws Problem INVALID_ARGUMENT */
export function checkInput(name: string, { input }: AnyCall, value: unknown): void {
  const wrong = misfit(input, value);
  if (wrong !== undefined) throw new Problem('INVALID_ARGUMENT', `${name}: ${wrong}`);
}
