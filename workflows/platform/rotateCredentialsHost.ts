import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Changes the credentials by which the platform gets into a host. The next ones are there, and have let us in, before those before are given up; from
 * then on it goes forward, because these are the ones that we know.
 */
export const rotateCredentialsHost = workflow('host.rotateCredentials', async (step, rotation) => {
  await step(hosts.makeCredentials, rotation);
  await step(hosts.addCredentials, rotation);
  await step(hosts.verifyCredentials, rotation);
  step.commit();
  await step(hosts.adoptCredentials, rotation);
  await step(hosts.dropCredentials, rotation);
});
