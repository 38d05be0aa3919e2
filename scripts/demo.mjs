#!/usr/bin/env node
import { launch } from './bootstrap.mjs';

const args = process.argv.slice(2);
// What the demo needs from outside besides its packages is fetched beside them; nothing of that is needed to take it down.
const meanwhile = args.includes('down') ? undefined : ['lab/fetch.ts', ...args];
await launch('lab/demo.ts', { args, tests: false, ...(meanwhile ? { meanwhile } : {}) });
