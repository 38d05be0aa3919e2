import * as Type from 'typebox';
import { change, object, question } from './call.ts';
import { ipAddress, orNull, pem, uuid, word } from './fields.ts';

const ovnRemote = Type.String({
  pattern: '^(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5}(,(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5})*$',
  maxLength: 1024,
});

/** Of Open vSwitch, as Linux names interfaces. */
const bridge = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,14}$' });

export const calls = {
  /** Open vSwitch's link to OVN. `systemId` becomes the chassis name. */
  'switch.ensureConfigured': change({
    systemId: word,
    ovnRemote,
    encapsulation: Type.Enum(['geneve', 'vxlan']),
    encapAddress: ipAddress,
    integrationBridge: bridge,
    /** What the host shows to OVN, and whose servers it trusts; null where OVN is reached in clear. The key is a secret. */
    tls: orNull(object({ caCertificate: pem, certificate: pem, privateKey: pem })),
  }),
  'switch.ensureUnconfigured': change({}),
  /** Which of these bridges the host has. */
  'switch.bridges': question({ names: Type.Array(bridge, { maxItems: 64 }) }, { bridges: Type.Array(bridge) }),
  /** OVN leads what is on the physical network through the bridge, which is there. */
  'switch.ensureMapping': change({ physicalNetworkId: uuid, bridge }),
  'switch.ensureMappingAbsent': change({ physicalNetworkId: uuid }),
};
