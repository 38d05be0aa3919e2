/** A cloud of its own, as the one of the other tests on simulated hosts: what people ask of hosts goes on beside what hosts do by themselves. */
export { default } from '../sim/setup.ts';
