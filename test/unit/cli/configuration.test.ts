import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configurationOf, writeConfiguration } from '../../../cli/configuration.ts';
import { belay, token } from './api.ts';

const nowhere = { url: 'http://127.0.0.1:1' };
let folder: string;
let path: string;
let warnings: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-configuration-'));
  path = join(folder, 'deep', 'config.json');
  warnings = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

const read = (flags: Parameters<typeof configurationOf>[0], env: Record<string, string> = {}) =>
  configurationOf(
    flags,
    { BELAY_CONFIG: path, BELAY_HOME: folder, ...env },
    {
      readFiles: (file) => readFileSync(file, 'utf8'),
      warn: (message) => void warnings.push(message),
    },
  );

const profiles = {
  home: { url: 'https://home.example', token: 'home-token', project: 'web' },
  work: { url: 'https://work.example/', token: 'work-token' },
};

describe('precedence', () => {
  it('flags come before the environment, the environment before the profile', () => {
    writeConfiguration(path, { profile: 'home', profiles });
    expect(read({})).toEqual({ url: 'https://home.example', token: 'home-token', project: 'web', profile: 'home' });
    expect(read({ profile: 'work' })).toEqual({ url: 'https://work.example', token: 'work-token', profile: 'work' });
    expect(read({}, { BELAY_PROFILE: 'work' }).url).toBe('https://work.example');
    expect(read({ project: 'a' }, { BELAY_PROJECT: 'b' }).project).toBe('a');
    expect(read({}, { BELAY_TOKEN: 'other' }).token).toBe('other');
    expect(warnings).toEqual([]);
  });

  it('the token of one address is never sent to another', () => {
    writeConfiguration(path, { profile: 'home', profiles });
    const elsewhere = read({ url: 'https://elsewhere.example' });
    expect(elsewhere).toEqual({ url: 'https://elsewhere.example', profile: 'home' });
    expect(read({}, { BELAY_URL: 'https://work.example' }).token).toBeUndefined();
    expect(read({ url: 'https://home.example/v1/' }).token).toBe('home-token');
  });

  it('without a profile the control plane of this checkout is meant', () => {
    writeFileSync(join(folder, 'admin-token'), 'first\n');
    expect(read({}, { BELAY_API_PORT: '18999' })).toEqual({
      url: 'http://127.0.0.1:18999',
      token: 'first',
      profile: 'default',
    });
    expect(read({ url: 'http://127.0.0.1:18998' }).token).toBeUndefined();
  });

  it('a file that others may read is warned about', () => {
    writeConfiguration(path, { profile: 'home', profiles });
    chmodSync(path, 0o644);
    read({});
    expect(warnings).toEqual([expect.stringContaining('mode 644')]);
  });
});

describe('configure', () => {
  it('writes a profile that only its owner may read, and never shows the token', async () => {
    const file = join(folder, 'token');
    writeFileSync(file, `${token}\n`);
    const env = { BELAY_CONFIG: path };
    const ran = await belay(
      nowhere,
      ['configure', '--url', 'https://cloud.example/', '--token-file', file, '--project', 'web'],
      { env },
    );
    expect(ran).toEqual({ code: 0, out: '', err: `wrote profile default to ${path}\n` });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({
      profile: 'default',
      profiles: { default: { url: 'https://cloud.example', token, project: 'web' } },
    });
    await belay(nowhere, ['configure', '--profile', 'lab', '--url', 'http://127.0.0.1:2', '--token-file', '-'], {
      env,
      stdin: 'lab-token',
    });
    const { out } = await belay(nowhere, ['configure', '--list'], { env });
    expect(out).toMatch(/^default +https:\/\/cloud.example +web +set/m);
    expect(out).toMatch(/^lab +http:\/\/127.0.0.1:2 +- +set +yes/m);
    expect(out).not.toContain('token\n');
    expect(out).not.toContain(token);
  });

  it('a new address does not keep the old token', async () => {
    writeConfiguration(path, { profiles: { default: { url: 'https://a.example', token } } });
    await belay(nowhere, ['configure', '--url', 'https://b.example'], { env: { BELAY_CONFIG: path } });
    expect(readFileSync(path, 'utf8')).not.toContain(token);
  });

  it('a broken file is named', async () => {
    writeConfiguration(path, { profiles: {} });
    writeFileSync(path, '{');
    const ran = await belay(nowhere, ['zones', 'list'], { env: { BELAY_CONFIG: path } });
    expect(ran).toMatchObject({ code: 2, err: expect.stringContaining(`${path} is no JSON`) });
  });
});
