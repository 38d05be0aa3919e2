import ssh2 from 'ssh2';
import { expect, it } from 'vitest';
import { isWhole, newSshKey } from '../../../runtime/sshKey.ts';

it('a new key can be read, although the library writes one now and then that can not', () => {
  const make = () => ssh2.utils.generateKeyPairSync('ed25519');
  let broken = make();
  // One in 256 is.
  for (let tries = 0; tries < 20_000 && isWhole(broken); tries++) broken = make();
  expect(ssh2.utils.parseKey(broken.private)).toBeInstanceOf(Error);
  const first = [broken, broken];
  const pair = newSshKey(() => first.pop() ?? make());
  expect([pair.private, pair.public].map((text) => ssh2.utils.parseKey(text) instanceof Error)).toEqual([false, false]);
});
