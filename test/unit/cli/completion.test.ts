import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, belay, startApi } from './api.ts';

let api: Api;
beforeEach(async () => {
  api = await startApi();
});
afterEach(() => api.close());

async function complete(...words: string[]): Promise<string[]> {
  const { code, out } = await belay(api, ['__complete', '--', ...words]);
  expect(code).toBe(0);
  return out
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split('\t')[0] ?? '');
}

const has = (shell: string): boolean => {
  try {
    execFileSync(shell, ['-c', 'true']);
    return true;
  } catch {
    return false;
  }
};

describe('scripts', () => {
  it.each(['bash', 'zsh', 'fish'])('the script for %s parses', async (shell) => {
    const { code, out } = await belay(api, ['completion', shell]);
    expect(code).toBe(0);
    expect(out).toContain('__complete');
    if (has(shell)) execFileSync(shell, ['-n'], { input: out });
  });

  it('bash gets what the command line answers, with spaces escaped', async () => {
    const { out } = await belay(api, ['completion', 'bash']);
    const script = `${out}
belay() { [[ "$*" == "__complete -- instances get w" ]] && printf 'web one\\tstopped\\nweb-2\\trunning\\n'; }
COMP_WORDS=(belay instances get w); COMP_CWORD=3; _belay belay; printf '<%s>' "\${COMPREPLY[@]}"`;
    expect(execFileSync('bash', ['-c', script]).toString()).toBe('<web\\ one><web-2>');
  });

  it('an unknown shell is wrong usage', async () => {
    expect((await belay(api, ['completion', 'csh'])).code).toBe(2);
  });
});

describe('candidates', () => {
  it('are commands, then verbs, then options', async () => {
    expect(await complete('inst')).toEqual(['instance-types', 'instances']);
    expect(await complete('instances', 're')).toEqual(['reboot', 'restart-elsewhere', 'recover']);
    expect(await complete('instances', 'create', '--root-volume.s')).toEqual(['--root-volume.size-gib']);
    expect(await complete('instances', 'create', '--no-s')).toEqual(['--no-start-on-create']);
  });

  it('are the values of a choice, however they are attached', async () => {
    expect(await complete('instances', 'stop', 'web', '--mode', 'soft')).toEqual(['soft', 'softThenForce']);
    expect(await complete('instances', 'create', '--firmware=u')).toEqual(['--firmware=uefi']);
    // As bash splits it.
    expect(await complete('instances', 'create', '--firmware', '=', 'u')).toEqual(['uefi']);
    expect(await complete('zones', 'list', '-o', 'y')).toEqual(['yaml']);
    expect(await complete('zones', 'list', '--columns', 'name,ena')).toEqual(['name,enabled']);
  });

  it('are names of resources, or ids where a name is not unique', async () => {
    api.add('instances', { name: 'web', state: 'running' });
    const [a, b] = [api.add('instances', { name: 'twin' }), api.add('instances', { name: 'twin' })];
    expect(await complete('instances', 'get', '')).toEqual(['web', a.id, b.id]);
    expect(await complete('console', 'w')).toEqual(['web']);
    api.add('zones', { name: 'north' });
    expect(await complete('instances', 'create', '--zone-id', '')).toEqual(['north']);
    expect(api.faults).toEqual([]);
  });

  it('are files where a file is expected', async () => {
    expect(await complete('images', 'upload', 'i', '')).toEqual([':files']);
    expect(await complete('instances', 'create', '--from-file', '')).toEqual([':files']);
  });

  it('an API that does not answer gives none', async () => {
    const { code, out } = await belay({ url: 'http://127.0.0.1:1' }, ['__complete', '--', 'instances', 'get', '']);
    expect({ code, out }).toEqual({ code: 0, out: '' });
  });
});
