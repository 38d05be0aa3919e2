/** A cloud of its own, as the one of the other tests on simulated hosts: the proof takes a while, and runs beside them. */
export { default } from '../sim/setup.ts';
