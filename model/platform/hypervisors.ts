/** What hosts run guests with. For each there is a driver in `activities/compute/drivers/`. */
export const hypervisors = ['kvm'] as const;

export type Hypervisor = (typeof hypervisors)[number];
