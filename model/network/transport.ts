/** What rules of security groups and of firewall policies say of a packet's protocol. */
import { type Static, Type } from 'typebox';
import { object, oneOf } from '../kind.ts';
import type { Family } from './ipAddress.ts';

export const port = Type.Integer({ minimum: 1, maximum: 65_535 });
export const byte = Type.Integer({ minimum: 0, maximum: 255 });

export const transport = {
  protocol: oneOf('any', 'tcp', 'udp', 'icmp', 'icmpv6'),
  fromPort: Type.Optional({ ...port, description: 'Of tcp and udp; all ports when not given' }),
  toPort: Type.Optional({ ...port, description: 'fromPort when not given' }),
  icmpType: Type.Optional({ ...byte, description: 'Of icmp and icmpv6; all types when not given' }),
  icmpCode: Type.Optional({ ...byte, description: 'All codes of the type when not given' }),
};

const Transport = object(transport);
type Transport = Static<typeof Transport>;

/** Undefined of a protocol that both families have. */
export const familyOfProtocol = (protocol: Transport['protocol']): Family | undefined =>
  protocol === 'icmp' ? 4 : protocol === 'icmpv6' ? 6 : undefined;

/** What of it can not be meant together with the rest. */
export function contradictionsOfTransport({
  protocol,
  ...numbers
}: Transport): { field: keyof Transport; message: string }[] {
  const { fromPort, toPort, icmpType, icmpCode } = numbers;
  const foreign = (fields: (keyof typeof numbers)[], owners: string[]) =>
    fields
      .filter((field) => numbers[field] !== undefined && !owners.includes(protocol))
      .map((field) => ({ field, message: `goes with the protocol ${owners.join(' or ')} only, not with ${protocol}` }));
  const wrong = (when: boolean, field: keyof Transport, message: string) => (when ? [{ field, message }] : []);
  return [
    ...foreign(['fromPort', 'toPort'], ['tcp', 'udp']),
    ...foreign(['icmpType', 'icmpCode'], ['icmp', 'icmpv6']),
    ...wrong(toPort !== undefined && fromPort === undefined, 'toPort', 'needs fromPort beside it'),
    ...wrong(
      toPort !== undefined && fromPort !== undefined && toPort < fromPort,
      'toPort',
      `must be at least fromPort, which is ${fromPort}`,
    ),
    ...wrong(icmpCode !== undefined && icmpType === undefined, 'icmpCode', 'needs icmpType beside it'),
  ];
}
