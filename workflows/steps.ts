/** The steps that workflows are made of, by area, with where each runs and how long it may take. */
import type { hypervisor as Hypervisor } from '../activities/compute/hypervisor.ts';
import type { instances as Instances } from '../activities/compute/instance.ts';
import type { placement as Placement } from '../activities/compute/placement.ts';
import type { networks as Networks } from '../activities/network/network.ts';
import type { networkInterfaces as NetworkInterfaces } from '../activities/network/networkInterface.ts';
import type { securityGroups as SecurityGroups } from '../activities/network/securityGroup.ts';
import type { subnets as Subnets } from '../activities/network/subnet.ts';
import type { volumeRecords as VolumeRecords, volumes as Volumes } from '../activities/storage/volume.ts';
import { refs } from './saga.ts';

type Area<F extends (world: never) => unknown> = ReturnType<F>;

export const placement = refs<Area<typeof Placement>>('placement', 'record');
export const instances = refs<Area<typeof Instances>>('instances', 'record');
export const hypervisor = refs<Area<typeof Hypervisor>>('hypervisor', 'host', {
  shutDown: { deadlineSeconds: 660, long: true },
  reboot: { deadlineSeconds: 120, long: true },
  migrate: { deadlineSeconds: 6 * 3600, long: true },
});
export const volumes = refs<Area<typeof Volumes>>('volumes', 'host');
export const volumeRecords = refs<Area<typeof VolumeRecords>>('volumeRecords', 'record');
export const networks = refs<Area<typeof Networks>>('networks', 'control');
export const subnets = refs<Area<typeof Subnets>>('subnets', 'control');
export const securityGroups = refs<Area<typeof SecurityGroups>>('securityGroups', 'control', {
  recordRules: { where: 'record' },
});
export const networkInterfaces = refs<Area<typeof NetworkInterfaces>>('networkInterfaces', 'control');
