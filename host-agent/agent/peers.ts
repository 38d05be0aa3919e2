import net from 'node:net';
import type { NetworkSign } from '../protocol/witness.ts';
import type { Calls } from '../protocol.ts';

type Asked = Calls['peer.probe']['input'];

/** A server of SSH speaks first, so nothing has to be said to it. */
function probe({ address, port }: Asked['addresses'][number], withinMs: number): Promise<NetworkSign> {
  return new Promise((resolve) => {
    let sign: NetworkSign = 'silent';
    const socket = net.connect({ host: address, port });
    const end = (found: NetworkSign) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(found);
    };
    const timer = setTimeout(() => end(sign), withinMs);
    socket.on('connect', () => {
      sign = 'accepts';
    });
    socket.on('data', () => end('speaks'));
    // One that closes without a word is alive: it has too many connections, or does not want ours.
    socket.on('end', () => end('speaks'));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ECONNREFUSED') end('refuses');
      else if (code === 'ECONNRESET') end('speaks');
      // No way there, as it seems now: that may be so from the beginning, or only until the time is over.
      else end('silent');
    });
  });
}

/** One sign for each address, in their order. */
export const probePeers = async ({ addresses, withinMs }: Asked): Promise<Calls['peer.probe']['result']> => ({
  signs: await Promise.all(addresses.map((address) => probe(address, withinMs))),
});
