/** A cloud of its own, as the one of the other tests on simulated hosts: what waits for hosts that fail goes on beside them. */
export { default } from '../sim/setup.ts';
