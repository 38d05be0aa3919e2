import * as Type from 'typebox';
import { change, object } from './call.ts';
import { ipAddress, orNull, pem, word } from './fields.ts';

const ovnRemote = Type.String({
  pattern: '^(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5}(,(tcp|ssl):(\\[[0-9A-Fa-f:]+\\]|[0-9.]+):[0-9]{1,5})*$',
  maxLength: 1024,
});

export const calls = {
  /** Open vSwitch's link to OVN. `systemId` becomes the chassis name. */
  'switch.ensureConfigured': change({
    systemId: word,
    ovnRemote,
    encapsulation: Type.Enum(['geneve', 'vxlan']),
    encapAddress: ipAddress,
    integrationBridge: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,14}$' }),
    /** What the host shows to OVN, and whose servers it trusts; null where OVN is reached in clear. The key is a secret. */
    tls: orNull(object({ caCertificate: pem, certificate: pem, privateKey: pem })),
  }),
  'switch.ensureUnconfigured': change({}),
};
