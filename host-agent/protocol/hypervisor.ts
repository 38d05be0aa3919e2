import { change } from './call.ts';
import { ipAddress, pem } from './fields.ts';

/** libvirtd is started anew and waited for. */
const restarted = { timeoutSeconds: 90 };

export const calls = {
  /** libvirt's settings and the certificates that encrypt and authenticate migration; restarts libvirtd when they changed. */
  'hypervisor.ensureConfigured': change(
    { caCertificate: pem, certificate: pem, privateKey: pem, migrationAddress: ipAddress },
    {},
    restarted,
  ),
  /** Puts back the files as they were before `hypervisor.ensureConfigured`. */
  'hypervisor.ensureUnconfigured': change({}, {}, restarted),
};
