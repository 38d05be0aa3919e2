import type * as protocol from '../../../host-agent/protocol/serial.ts';
import { findDomain } from './domainState.ts';
import { type CallHandlers, type Domain, type Host, nothing, type SerialLog } from './host.ts';

const mib = 2 ** 20;
const serialLogLimit = 65_536;

export function print(domain: Domain, text: string): void {
  domain.serial.text = (domain.serial.text + text).slice(-serialLogLimit);
  for (const reader of domain.serial.readers) reader.write(text);
}

/** The log of a domain, or of one that has just left. */
export const serialOf = (host: Host, id: string): SerialLog =>
  host.domains.get(id)?.serial ?? host.leftLogs.get(id) ?? findDomain(host, id).serial;

export const calls: CallHandlers<typeof protocol.calls> = {
  'domain.serialLog'(host, { id, bytes }) {
    const { earlier, text } = host.domains.get(id)?.serial ?? host.leftLogs.get(id) ?? { earlier: '', text: '' };
    return { text: (earlier + text).slice(-Math.min(Math.max(bytes, 1), mib)) };
  },
  'domain.ensureEarlierSerialLog'(host, { id, text }) {
    const serial = host.domains.get(id)?.serial ?? host.leftLogs.get(id);
    if (serial) serial.earlier = text;
    return nothing;
  },
  'domain.ensureSerialLogAbsent'(host, { id }) {
    const serial = host.domains.get(id)?.serial ?? host.leftLogs.get(id);
    host.leftLogs.delete(id);
    if (!serial) return nothing;
    for (const reader of serial.readers) reader.end();
    Object.assign(serial, { earlier: '', text: '', readers: new Set() });
    return nothing;
  },
};
