#!/usr/bin/env node
import { launch } from './bootstrap.mjs';

await launch('scripts/run-tests.ts', { whenUnprepared: () => console.log('0 passed, 1 failed') });
