/** The power of hosts. Nothing outside of this folder knows what a BMC speaks. */
import { setTimeout } from 'node:timers/promises';
import type { Database } from '../../../database/database.ts';
import { bmcOf, type PoweredHost, pinCertificate } from '../../../database/power.ts';
import { unseal } from '../../../database/secrets.ts';
import { type BmcProtocol, defaultBmcPorts, type PowerCommand } from '../../../model/platform/power.ts';
import { Problem } from '../../../runtime/problem.ts';
import { type Bmc, type PowerDriver, WrongPassword } from './driver.ts';
import { ipmi } from './ipmi.ts';
import { redfish } from './redfish.ts';

const drivers = { ipmi, redfish } as const satisfies Record<BmcProtocol, PowerDriver>;

export const bmcPasswordField = 'bmcPassword';
/** While it is being changed: the BMC may have this one already. */
export const nextBmcPasswordField = 'nextBmcPassword';

/** A BMC is a slow computer; one that says nothing for so long will not answer this time. */
const answerMs = 10_000;
/** Where a power cycle has to be done in two, it waits for the power to go off in between. */
const cycleMs = 30_000;
const lookMs = 1_000;

/** The power of one host. Every call ends by itself, within seconds unless it waits for something; failures are Problems that say in plain words what is wrong. */
export interface Power {
  /** As the records had it when it was looked up. */
  readonly host: PoweredHost;
  state(): Promise<'on' | 'off'>;
  command(command: PowerCommand): Promise<void>;
  /** Until it is so, `withinMs` at the most. Answers how it is then. */
  until(wanted: 'on' | 'off', withinMs: number, signal?: AbortSignal): Promise<'on' | 'off'>;
  /** Whether it lets us in by this password, or by that of the records. All else that it refuses is an error. */
  opensBy(password?: string): Promise<boolean>;
  changePassword(password: string, by?: string): Promise<void>;
}

/** What became of it is written to the records of this BMC, and of no other that the host may have by then. */
export const askedBmc = ({ id, bmc }: Pick<PoweredHost, 'id' | 'bmc'>) => ({ hostId: id, bmc: JSON.stringify(bmc) });

export const isOfAnother = (name: string): string =>
  `the BMC of host ${name} says of it what is not seen: it is the BMC of another machine, and it is not used until the host is updated with the right one`;

/** Of a host that has a BMC; null for one that has none. Its certificate is pinned at first contact, before it is told anything. */
export async function powerOf(
  database: Database,
  hostId: string,
  { withinMs = answerMs, password: other = null }: { withinMs?: number; password?: string | null } = {},
): Promise<Power | null> {
  const [host] = await bmcOf(database.connections, { hostId });
  if (!host?.bmc) return null;
  const { protocol, address, port = defaultBmcPorts[protocol], user, certificate = null, system = null } = host.bmc;
  const driver: PowerDriver = drivers[protocol];
  if (host.bmcDisprovedAt) throw new Problem('PRECONDITION_FAILED', isOfAnother(host.name));
  const password = other ?? (host.sealedPassword && unseal(hostId, bmcPasswordField, host.sealedPassword));
  if (password === null)
    throw new Problem(
      'PRECONDITION_FAILED',
      `the password of the BMC of host ${host.name} is not known: update the host with it`,
    );
  const inTime = (signal?: AbortSignal, ms = withinMs): AbortSignal =>
    signal ? AbortSignal.any([signal, AbortSignal.timeout(ms)]) : AbortSignal.timeout(ms);
  const bmc: Bmc = { address, port, user, password, certificate, system };
  const open = async (): Promise<Bmc> => {
    if (bmc.certificate !== null) return bmc;
    const found = await driver.certificate(bmc, inTime());
    if (found === null) return bmc;
    // Of two who meet it first, one says which it is.
    const [pin] = await pinCertificate(database.connections, { ...askedBmc(host), certificate: found });
    bmc.certificate = pin?.certificate ?? found;
    return bmc;
  };
  const state = async (signal?: AbortSignal): Promise<'on' | 'off'> => driver.state(await open(), inTime(signal));
  return {
    host,
    state,
    command: async (command) =>
      driver.command(
        await open(),
        command,
        inTime(undefined, command === 'cycle' ? Math.max(withinMs, cycleMs) : withinMs),
      ),
    async until(wanted, within, signal) {
      for (const end = performance.now() + within; ; await setTimeout(lookMs, undefined, { signal })) {
        // While it changes its mind it may not answer.
        const now = await state(signal).catch((error: unknown) => {
          if (!(error instanceof Problem) || error.status < 500 || performance.now() > end) throw error;
          return null;
        });
        if (now !== null && (now === wanted || performance.now() > end)) return now;
      }
    },
    async opensBy(other = password) {
      try {
        await driver.state({ ...(await open()), password: other }, inTime());
        return true;
      } catch (error) {
        if (error instanceof WrongPassword) return false;
        throw error;
      }
    },
    changePassword: async (next, by = password) =>
      driver.changePassword({ ...(await open()), password: by }, next, inTime()),
  };
}

/** What went wrong with a BMC, in plain words; other errors are none of these. */
export const whyPowerFailed = (error: unknown): string => {
  if (error instanceof Problem) return error.message;
  throw error;
};
