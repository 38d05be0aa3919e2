/** Guests of KVM, or emulated by QEMU, through the agent of a host that has libvirt. */
import type { TaskName, Tasks } from '../../../host-agent/protocol.ts';
import { noAccess } from '../../storage/drivers/index.ts';
import type { ComputeDriver } from './driver.ts';

export const libvirt: ComputeDriver = (host) => {
  /** Ends what a worker that died may have left running: it would go on after its undo. */
  async function endTask<N extends TaskName>(name: N, taskId: string, input: Tasks[N]['input']): Promise<void> {
    // With an aborted signal nothing is started: only the task of that id is cancelled, if there is one.
    const cancelled = new Error('undone');
    try {
      await host.runTask(name, taskId, input, { signal: AbortSignal.abort(cancelled) });
    } catch (error) {
      if (error !== cancelled) throw error;
    }
  }

  return {
    async ensureDefined(spec) {
      await host.call('domain.ensureDefined', spec);
    },
    async ensureRunning(id) {
      await host.call('domain.ensureRunning', { id });
    },
    async ensureAbsent(id) {
      await host.call('domain.ensureAbsent', { id });
    },
    status: (id) => host.call('domain.status', { id }),

    async shutDown(id, timeoutSeconds, { id: taskId, ...options }) {
      await host.runTask('domain.shutDown', taskId, { id, timeoutSeconds }, options);
    },
    endShutDown: (id, taskId) => endTask('domain.shutDown', taskId, { id, timeoutSeconds: 1 }),
    async reset(id) {
      await host.call('domain.reset', { id });
    },
    async reboot(id, timeoutSeconds, { id: taskId, ...options }) {
      await host.runTask('domain.reboot', taskId, { id, timeoutSeconds }, options);
    },

    move: (id, { access, ...move }, { id: taskId, ...options }) =>
      host.runTask('domain.migrate', taskId, { id, ...move, ...access }, options),
    endMove: (id, targetAddress, taskId) =>
      endTask('domain.migrate', taskId, {
        id,
        targetAddress,
        ...noAccess,
        bandwidthBytesPerSec: null,
        autoConverge: true,
      }),
    ensureNotMoving: (id) => host.call('domain.ensureNotMigrating', { id }),
    async ensureGoesOn(id) {
      await host.call('domain.ensureGoesOn', { id });
    },

    async ensureDisk(id, disk) {
      await host.call('domain.ensureDisk', { id, disk });
    },
    async ensureDiskAbsent(id, volumeId, mustBeThere) {
      await host.call('domain.ensureDiskAbsent', { id, volumeId, mustBeThere });
    },
    async ensureInterface(id, nic) {
      await host.call('domain.ensureInterface', { id, interface: nic });
    },
    async ensureInterfaceAbsent(id, interfaceId, mustBeThere) {
      await host.call('domain.ensureInterfaceAbsent', { id, interfaceId, mustBeThere });
    },
    async growDisk(id, volumeId, sizeGib) {
      await host.call('domain.growDisk', { id, volumeId, sizeGib });
    },
    freeze: async (id) => (await host.call('domain.freeze', { id })).frozen,
    async thaw(id) {
      await host.call('domain.thaw', { id });
    },

    serialLog: async (id, bytes) => (await host.call('domain.serialLog', { id, bytes })).text,
    async ensureEarlierSerialLog(id, text) {
      await host.call('domain.ensureEarlierSerialLog', { id, text });
    },
    async ensureSerialLogAbsent(id) {
      await host.call('domain.ensureSerialLogAbsent', { id });
    },
  };
};
