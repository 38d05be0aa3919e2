import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export interface AgentBundle {
  /** One CommonJS file for Node 18 or newer, with nothing beside it. */
  code: string;
  /** The first 12 hexadecimal digits of the code's SHA-256; the running agent reports the same. */
  version: string;
}

let bundled: Promise<AgentBundle> | undefined;

/** Makes the agent's one file from its sources; once per process. */
export function bundleAgent(): Promise<AgentBundle> {
  bundled ??= makeBundle();
  return bundled;
}

async function makeBundle(): Promise<AgentBundle> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('./agent/main.ts', import.meta.url))],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node18',
    format: 'cjs',
    loader: { '.py': 'text' },
    legalComments: 'none',
    logLevel: 'silent',
    // Names stay readable in stack traces; the file travels once per host.
    minifySyntax: true,
    minifyWhitespace: true,
  });
  const code = result.outputFiles[0]?.text ?? '';
  return { code, version: createHash('sha256').update(code).digest('hex').slice(0, 12) };
}
