/** Writes `generated/api.ts`, the types of the API's document, which the command line and the tests are checked against. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import openapiTypescript, { astToString } from 'openapi-typescript';

const inFolder = (name: string): string => fileURLToPath(new URL(`../generated/${name}`, import.meta.url));

// A default is what the server fills in, so it does not make a property of a body one that must be named.
const types = await openapiTypescript(readFileSync(inFolder('openapi.json'), 'utf8'), { defaultNonNullable: false });
// Whole or not at all: a compiler that starts meanwhile reads either the old file or the new one.
writeFileSync(inFolder('api.ts.new'), astToString(types));
renameSync(inFolder('api.ts.new'), inFolder('api.ts'));
