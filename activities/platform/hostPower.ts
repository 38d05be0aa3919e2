/** The power of hosts by their BMCs: what an operator asks for, and what is seen of it. */
import { Context } from '@temporalio/activity';
import { type Database, insertAll, type Transaction, transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { see, seenNoMore } from '../../database/findings.ts';
import {
  bmcOf,
  countSilentBmcs,
  disproveBmc,
  guestsOf,
  hostsWithBmc,
  noteCut,
  notePower,
  type PoweredHost,
} from '../../database/power.ts';
import { readSecrets } from '../../database/secrets.ts';
import { noteSent, noteTaken, notSent } from '../../database/sent.ts';
import { maintenance } from '../../model/platform/maintenance.ts';
import type { PowerCommand } from '../../model/platform/power.ts';
import { inLine } from '../../runtime/inLine.ts';
import type { Log } from '../../runtime/log.ts';
import { metrics, toldFor } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import { refuse, tryAgain } from '../failure.ts';
import { asHolder, refuseLate } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { askedBmc, isOfAnother, nextBmcPasswordField, type Power, powerOf, whyPowerFailed } from './power/index.ts';
import { answers, lookFor } from './witnesses.ts';

interface HostRef {
  hostId: string;
}

interface Switching extends HostRef {
  command: PowerCommand;
}

const silentFinding = 'bmcUnreachable';
const otherFinding = 'bmcOfAnotherMachine';

type WithBmc = Pick<PoweredHost, 'id' | 'bmc'>;

/** After a command a machine is on or off within seconds; an operating system takes as long as its services take to stop. */
const followMs = 120_000;
const shutDownMs = 600_000;
/** A failover waits for nothing that it does not need: who is silent for so long is left. */
const cutMs = { answer: 5_000, off: 20_000 };

const stateAfter = (command: PowerCommand): 'on' | 'off' => (command === 'off' || command === 'softOff' ? 'off' : 'on');

const tell = (tx: Transaction, hostId: string, { changed, ...payload }: { changed: boolean }): Promise<void> =>
  changed
    ? insertAll(tx, {
        event: [
          eventRow({ type: 'host.powerChanged', resourceKind: 'host', resourceId: hostId, projectId: null, payload }),
        ],
      })
    : Promise.resolve();

/** Says it in the records, and to those who follow when it is new. */
export async function noteState(database: Database, host: WithBmc, state: PoweredHost['powerState']): Promise<void> {
  await transaction(database, async (tx) => {
    const [row] = await notePower(tx, { ...askedBmc(host), powerState: state });
    if (!row) return;
    await tell(tx, host.id, row);
    if (state !== 'unknown')
      await seenNoMore(tx, { resourceKind: 'host', resourceIds: [host.id], what: [silentFinding] });
  });
}

/** It can not be that of the host, of which it says something else than what is seen. */
export async function disprove(
  database: Database,
  host: WithBmc,
  seen: string,
  says = 'that the host is off',
): Promise<void> {
  await transaction(database, async (tx) => {
    const [row] = await disproveBmc(tx, askedBmc(host));
    if (!row) return;
    await tell(tx, host.id, row);
    await seenNoMore(tx, { resourceKind: 'host', resourceIds: [host.id], what: [silentFinding] });
    await see(tx, {
      class: 'risk',
      severity: 'critical',
      what: otherFinding,
      resourceKind: 'host',
      resourceId: host.id,
      system: 'bmc',
      expected: 'its BMC switches this host',
      actual: `It says ${says}, and ${seen}: so it is the BMC of another machine, which may have been switched in its place. Nobody believes it any more. Find out whose it is, and update the host with its own: belay hosts update <host> --bmc … --bmc-password …`,
    });
  });
}

/**
 * What its BMC says of a host. One that says off of a host that answers is another machine's.
 *
 * @throws PRECONDITION_FAILED when that is found out
 */
async function stateOf(database: Database, power: Power): Promise<'on' | 'off'> {
  const { host } = power;
  const state = await power.state();
  if (state === 'on' || host.connection === 'disconnected' || !(await answers(database, host.id))) return state;
  // It may have been switched on in between.
  if ((await power.state()) === 'on') return 'on';
  await disprove(database, host, 'it answers');
  throw new Problem('PRECONDITION_FAILED', isOfAnother(host.name));
}

async function noteSilent(database: Database, host: WithBmc, why: string): Promise<void> {
  await noteState(database, host, 'unknown');
  await see(
    database.connections,
    {
      class: 'risk',
      severity: 'warning',
      what: silentFinding,
      resourceKind: 'host',
      resourceId: host.id,
      system: 'bmc',
      expected: 'its BMC tells whether it is on',
      actual: `${why}. Until it does, the host can not be switched by it, and a failover can not cut its power`.slice(
        0,
        1024,
      ),
    },
    // One that is just being updated is silent for a while.
    { needed: 2 },
  );
}

/** So many hosts in a run at least; more where it would take more than ten runs to come around; and so many at the most. */
const inRun = { least: 500, most: 2_000, runs: 10 };
/** So many are asked side by side: `ipmitool` takes some 50 ms of a core each time. */
const atOnce = 16;
/** A run begins nothing new after so long; whoever was not asked is first in the next. */
const runMs = 45_000;

const count = toldFor(metrics.bmcsSilent, 4 * maintenance.watchPower.everySeconds * 1_000);

/** Asks the BMCs that were asked the longest ago. */
export async function watchPower(database: Database, log: Log): Promise<{ asked: number; silent: number }> {
  const hosts = await hostsWithBmc(database.connections, inRun);
  const end = performance.now() + runMs;
  let asked = 0;
  let silent = 0;
  const begin = inLine(atOnce);
  async function ask(host: (typeof hosts)[number]): Promise<void> {
    if (performance.now() >= end) return;
    const { id } = host;
    try {
      const power = await powerOf(database, id);
      if (!power) return;
      asked += 1;
      await noteState(database, power.host, await stateOf(database, power));
    } catch (error) {
      const [now] = await bmcOf(database.connections, { hostId: id });
      if (!now || now.bmcDisprovedAt) return;
      // One that can not be asked keeps nobody from asking the others.
      if (!(error instanceof Problem)) log.error({ hostId: id, error: String(error) }, 'could not ask a BMC');
      silent += 1;
      await noteSilent(database, host, error instanceof Problem ? error.message : 'it could not be asked');
    }
  }
  await Promise.all(hosts.map((host) => begin(() => ask(host))));
  const [all] = await countSilentBmcs(database.connections, {});
  count(all?.silent ?? 0);
  return { asked, silent };
}

export const hostPower = (world: World) => {
  const { database, log } = world;
  const { connections } = database;

  async function find(hostId: string): Promise<Power | null> {
    const power = await powerOf(database, hostId);
    if (!power && !(await bmcOf(connections, { hostId })).length)
      throw refuse('NOT_FOUND', `there is no host ${hostId}`);
    return power;
  }
  async function controlled(hostId: string): Promise<Power> {
    const power = await find(hostId);
    if (!power) throw refuse('PRECONDITION_FAILED', `host ${hostId} has no BMC: update it with one`);
    return power;
  }

  /** A failover may find the password half changed, by an operation that gives way to it. */
  async function powerToCut(hostId: string): Promise<Power | null> {
    const power = await powerOf(database, hostId, { withinMs: cutMs.answer });
    const { nextBmcPassword: password } = await readSecrets(connections, { kind: 'host', id: hostId }, [
      nextBmcPasswordField,
    ]);
    if (!power || !password || (await power.opensBy())) return power;
    return powerOf(database, hostId, { withinMs: cutMs.answer, password });
  }

  return {
    /** Before anything is done to a host: a wrong address or password of its BMC does not get better. */
    reachBmc: step({
      system: 'bmc',
      async do({ hostId }: HostRef) {
        const power = await find(hostId);
        if (!power) return;
        // It has just let us in.
        const state = await power.state();
        if (state === 'off') throw refuse('PRECONDITION_FAILED', isOfAnother(power.host.name));
        await noteState(database, power.host, state);
      },
    }),

    /** Its BMC answers; and what would take guests down, or a host out of use, is done on the word of a person only. */
    checkPower: step({
      system: 'bmc',
      async do({ hostId, command, force }: Switching & { force: boolean }) {
        const power = await controlled(hostId);
        const { host } = power;
        if (command !== 'on' && !force && !host.isOut) {
          const guests = await guestsOf(connections, { hostId });
          if (guests.length > 0)
            throw refuse(
              'HAS_DEPENDENTS',
              `instances are on host ${hostId}: bring it into maintenance first, or use force`,
              {
                blockers: guests.map((guest) => ({ kind: 'instance', ...guest })),
              },
            );
          if (host.state !== 'maintenance')
            throw refuse(
              'PRECONDITION_FAILED',
              `host ${hostId} is in use, and would be missed: bring it into maintenance first, or use force`,
            );
        }
        const state = await stateOf(database, power);
        await noteState(database, host, state);
        if (state === 'off' && (command === 'cycle' || command === 'reset'))
          throw refuse('INVALID_STATE', `host ${hostId} is off: switch it on`);
      },
    }),

    switchPower: step({
      system: 'bmc',
      async do({ hostId, command }: Switching, context) {
        const power = await controlled(hostId);
        const asks = command === 'cycle' || command === 'reset';
        // Also so that it answers, and what follows is not sent into the dark.
        const state = await power.state();
        if (!asks) {
          if (state === stateAfter(command)) return;
          await refuseLate(connections, context);
          return power.command(command);
        }
        // A second one would take down what the first has started. What may have come is not sent again; a host that it has left off is switched on.
        const sent = { operationId: context.operationId, what: command };
        const isNew = await asHolder(database, context, async (tx) => (await noteSent(tx, sent)).length > 0);
        if (!isNew) return state === 'off' ? power.command('on') : undefined;
        try {
          await power.command(command);
        } catch (error) {
          if (!(error instanceof Problem)) throw error;
          if (error.status < 500) await notSent(connections, sent);
          throw error;
        }
        await noteTaken(connections, sent);
      },
    }),

    awaitPower: step({
      system: 'bmc',
      async do({ hostId, command }: Switching): Promise<{ powerState: 'on' | 'off' }> {
        const { cancellationSignal: signal } = Context.current();
        const power = await controlled(hostId);
        const wanted = stateAfter(command);
        const soft = command === 'softOff';
        const state = await power.until(wanted, soft ? shutDownMs : followMs, signal);
        await noteState(database, power.host, state);
        if (state === wanted) return { powerState: state };
        if (soft)
          throw refuse(
            'TIMEOUT',
            `the operating system of host ${hostId} did not shut down in ten minutes: switch it off`,
          );
        throw tryAgain(
          'BACKEND_UNAVAILABLE',
          `the BMC of host ${hostId} has taken the command, and it is ${state} still`,
        );
      },
    }),

    /**
     * Beside the fence, whatever becomes of that: what is off writes nothing, also where nobody can be shut out. A BMC that is silent, as it is when the
     * whole rack has no power, keeps nobody waiting.
     */
    cutPower: step({
      system: 'bmc',
      async do({ hostId }: HostRef, context): Promise<{ off: boolean }> {
        const [host] = await bmcOf(connections, { hostId });
        if (!host?.bmc) return { off: false };
        let power: Power | null;
        try {
          power = await powerToCut(hostId);
          if (!power) return { off: false };
          await refuseLate(connections, context);
          // Some refuse it to a machine that is off; what counts is that it is.
          await power.command('off').catch((error: unknown) => {
            if (!(error instanceof Problem) || error.status >= 500) throw error;
          });
          if ((await power.until('off', cutMs.off)) !== 'off') {
            log.warn({ hostId }, 'the BMC of a host that fails over does not switch it off');
            return { off: false };
          }
          // Nothing ties a BMC to its machine but that the host is gone now.
          const { sign, missedBy } = await lookFor(database, hostId, 1);
          if ((await power.state()) !== 'off') return { off: false };
          if (sign !== null) {
            log.error({ hostId, sign }, 'the BMC of a host that fails over is that of another machine');
            await disprove(database, power.host, sign);
            return { off: false };
          }
          if (missedBy === 0) {
            log.warn({ hostId }, 'the BMC of a host that fails over says off, and nobody else could look');
            return { off: false };
          }
        } catch (error) {
          const why = whyPowerFailed(error);
          log.warn({ hostId, why }, 'the power of a host that fails over could not be cut');
          if (!host.bmcDisprovedAt) await noteSilent(database, host, why);
          return { off: false };
        }
        const asked = askedBmc(power.host);
        return asHolder(database, context, async (tx) => {
          const [row] = await noteCut(tx, { ...asked, operationId: context.operationId });
          if (row) await tell(tx, hostId, row);
          return { off: row !== undefined };
        });
      },
    }),

    /** A BMC that does not answer keeps no host from coming back. */
    lookAtPower: step({
      system: 'bmc',
      async do({ hostId }: HostRef): Promise<{ off: boolean }> {
        const [host] = await bmcOf(connections, { hostId });
        if (!host?.bmc) return { off: false };
        try {
          const power = await powerOf(database, hostId);
          if (!power) return { off: false };
          const state = await stateOf(database, power);
          await noteState(database, power.host, state);
          return { off: state === 'off' };
        } catch (error) {
          const why = whyPowerFailed(error);
          const [now] = await bmcOf(connections, { hostId });
          if (now && !now.bmcDisprovedAt) await noteSilent(database, host, why);
          return { off: false };
        }
      },
    }),
  };
};
