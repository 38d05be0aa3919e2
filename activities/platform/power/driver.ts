/** What a BMC is asked, whatever it speaks. */
import type { PowerCommand } from '../../../model/platform/power.ts';
import { Problem } from '../../../runtime/problem.ts';

/** Where a BMC is and how it lets us in. */
export interface Bmc {
  address: string;
  port: number;
  user: string;
  password: string;
  /** SHA-256 of the certificate that it has to show, in hexadecimal digits; null where none is pinned. */
  certificate: string | null;
  /** Which of several systems of one BMC it is; null: the only one. */
  system: string | null;
}

/** Each call ends with the signal at the latest. Failures are Problems. */
export interface PowerDriver {
  /** SHA-256 of the certificate that it shows; null where the protocol has none. Nothing secret is told to it. */
  certificate(bmc: Bmc, signal: AbortSignal): Promise<string | null>;
  state(bmc: Bmc, signal: AbortSignal): Promise<'on' | 'off'>;
  /** Answers once the BMC has taken it. The power may follow later. */
  command(bmc: Bmc, command: PowerCommand, signal: AbortSignal): Promise<void>;
  /** From then on it lets us in by this one. */
  changePassword(bmc: Bmc, password: string, signal: AbortSignal): Promise<void>;
}

const at = ({ address, port }: Bmc): string => `the BMC at ${address} (port ${port})`;

/** It may answer another time. */
export const silent = (bmc: Bmc, why: string): Problem =>
  new Problem('BACKEND_UNAVAILABLE', `${at(bmc)} does not answer: ${why}`);
/** It answered something else than what its protocol says. */
export const wrongAnswer = (bmc: Bmc, why: string): Problem =>
  new Problem('BACKEND_UNAVAILABLE', `${at(bmc)} gave a wrong answer: ${why}`);
const whoIsRefused = (bmc: Bmc): string =>
  `${at(bmc)} refuses user ${bmc.user}: its name, its password or its rights are wrong`;
/** It knows by the password that it is not we. All else that it may refuse says nothing of a password. */
export class WrongPassword extends Problem {
  constructor(bmc: Bmc) {
    super('PRECONDITION_FAILED', whoIsRefused(bmc));
  }
}
export const wrongPassword = (bmc: Bmc): Problem => new WrongPassword(bmc);
/** The password may be right. */
export const noRights = (bmc: Bmc): Problem => new Problem('PRECONDITION_FAILED', whoIsRefused(bmc));
export const refused = (bmc: Bmc, why: string): Problem =>
  new Problem('PRECONDITION_FAILED', `${at(bmc)} refuses: ${why}`);
export const otherCertificate = (bmc: Bmc, found: string): Problem =>
  new Problem(
    'PRECONDITION_FAILED',
    `${at(bmc)} shows another certificate than the one that is pinned, so it was told nothing. If it has a new one, update the host with it: it shows ${found}, and ${bmc.certificate} is pinned`,
  );
