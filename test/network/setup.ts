/** A cloud of its own, as the one of the other tests on simulated hosts. */
export { default } from '../sim/setup.ts';
