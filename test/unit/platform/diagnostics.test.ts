/** What a host says of itself is told to people: nothing in it that looks like a secret is. */
import { expect, test } from 'vitest';
import { endOf, withoutSecrets } from '../../../activities/platform/hostDiagnostics.ts';

test.each([
  'IPMI_PASSWORD=hunter2',
  'sshPassword: hunter2',
  '{"privateKey":"hunter2","a":1}',
  '{"bmcPassword": "hunter2 \\" hunter2"}',
  'said {\\"token\\":\\"hunter2\\"}',
  'api_key=hunter2',
  'API-KEY: hunter2',
  'ipmitool -U root --password hunter2 power status',
  "ldapsearch --bind-password 'hunter2 hunter2'",
  'Authorization: Bearer hunter2hunter2',
  '"authorization":"Basic hunter2hunter2=="',
  'got https://user:hunter2@mirror.example/debian',
  'got https://hunter2@mirror.example/debian',
  'passphrase = "hunter2"',
  'secret=hunter2;',
  '-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----',
  '-----BEGIN PRIVATE KEY-----\nhunter2',
  `key = ${'AQ'}${'hunter2'.repeat(6)}==`,
])('%s', (text) => {
  const clean = withoutSecrets(text);
  expect(clean).not.toMatch(/hunter2/);
  expect(clean).toContain('***');
});

test.each([
  'Mem: 64000 12000 52000',
  '/dev/sda1 50G 10G 38G 21% /',
  'br-int: ovn-remote "ssl:10.0.0.1:6642"',
  'systemd[1]: Started libvirtd.service',
  'see https://docs.example/page@v1.2',
])('%s is told as it is', (text) => {
  expect(withoutSecrets(text)).toBe(text);
});

test('of what is long the end is told, and a secret that begins before it is left out', () => {
  const long = `${'x'.repeat(10_000)} PASSWORD=hunter2 end`;
  expect(endOf(long)).toMatch(/^… x+ PASSWORD=\*\*\* end$/);
});
