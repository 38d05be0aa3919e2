/**
 * Tells callers that their operation has ended: one POST, signed as Standard Webhooks lays down (standardwebhooks.com), repeated with the
 * same id until the receiver answers with a 2xx or the attempts are used up.
 */

import { lookup } from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import { type BlockList, isIP, type LookupFunction } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { may } from '../acceptance/caller.ts';
import { holderOf } from '../acceptance/rights.ts';
import { strangersVeil } from '../acceptance/veil.ts';
import type { Visible } from '../acceptance/visible.ts';
import { readById } from '../api/query/gather.ts';
import {
  callbackSecretField,
  type DueCallback,
  deniedNetworks,
  isDenied,
  takeCallbacks,
} from '../database/callbacks.ts';
import type { Database } from '../database/database.ts';
import { readSecret } from '../database/secrets.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { instantAt } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { finalOperationStates } from '../model/platform/operation.ts';
import type { Log } from '../runtime/log.ts';
import { metrics, tellFromZero } from '../runtime/metrics.ts';

const outcomes = ['delivered', 'failed', 'givenUp'] as const;

tellFromZero(
  metrics.callbacks,
  outcomes.map((outcome) => ({ outcome })),
);

/** Before the second, third … attempt; after the last pause it is given up. */
const pausesSeconds = [5, 30, 300, 1800, 7200];
/** Under way at a time, and of one account: a receiver that hangs holds the places of its own account, and no others. */
const atOnce = 64;
const ofAccountAtOnce = 4;
const answerLimitMs = 10_000;

/** It was this caller's own operation; but who gets the message is known to nobody, so it says of the platform what everybody may know. */
const veil = strangersVeil();
const everything: Visible = Object.assign((): null => null, { veil });

const deleteCallback = statement((p: Values<{ operationId: string }>) =>
  from.deleteFrom('callback').where('operationId', '=', p.operationId),
);

const due = (database: Database, places: number, taken: ReadonlyMap<string, number>): Promise<DueCallback[]> =>
  takeCallbacks(database.connections, {
    finals: finalOperationStates,
    pausesSeconds,
    places,
    ofAccountAtOnce,
    takenAccountIds: [...taken.keys()],
    takenPlaces: [...taken.values()],
  });

/**
 * Sends one message and resolves when it was taken.
 *
 * Rejects when the receiver is in a denied network (whatever its name resolves to), can not be reached, takes longer than ten seconds, or
 * answers anything but 2xx. Redirects are not followed.
 */
export function post(address: string, headers: Record<string, string>, body: string, denied: BlockList): Promise<void> {
  const url = new URL(address);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const guarded: LookupFunction = (hostname, options, done) =>
    lookup(hostname, { ...options, all: true }, (error, found) => {
      const allowed = (found ?? []).filter(({ address: one }) => !isDenied(denied, one));
      const [first] = allowed;
      if (error) done(error, '', 0);
      else if (!first) done(new Error(`${hostname} is in a network that callbacks do not go to`), '', 0);
      else if (options.all) done(null, allowed);
      else done(null, first.address, first.family);
    });
  return new Promise((resolve, reject) => {
    if (isIP(host) && isDenied(denied, host))
      return reject(new Error(`${host} is in a network that callbacks do not go to`));
    const request = (url.protocol === 'https:' ? https : http).request(
      url,
      {
        method: 'POST',
        lookup: guarded,
        signal: AbortSignal.timeout(answerLimitMs),
        headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        response.resume();
        const { statusCode = 0 } = response;
        if (statusCode >= 200 && statusCode < 300) resolve();
        else reject(new Error(`the receiver answered ${statusCode}`));
      },
    );
    request.once('error', reject);
    request.end(body);
  });
}

/** Nothing more is told to whoever asked: trying again does not help. */
class RightEnded extends Error {}

/** Whoever asked must still be let in, and may still read the operation, or ask for another of the kind. */
async function refuseEnded(database: Database, apiKeyId: string, operation: Told): Promise<void> {
  const holder = await holderOf(database.connections, apiKeyId);
  if (!holder) throw new RightEnded('the API key that asked for it is not valid any more');
  const place = { projectId: operation.projectId, resource: { kind: operation.targetKind, id: operation.targetId } };
  if (!may(holder, 'operation.get', place) && !may(holder, operation.type, place))
    throw new RightEnded('who asked for it has no right to the operation any more');
}

interface Told {
  state: string;
  type: string;
  projectId: string | null;
  targetKind: string;
  targetId: string;
}

async function deliver(database: Database, denied: BlockList, callback: DueCallback): Promise<void> {
  const { operationId, apiKeyId, url } = callback;
  const secret = await readSecret(database, { kind: 'apiKey', id: apiKeyId }, callbackSecretField);
  if (secret === null) throw new RightEnded('the API key that asked for it is gone');
  const operation = await readById(database.connections, kindOf('operation') as Kind, operationId, {
    visible: everything,
    showDeleted: true,
  });
  if (!operation) throw new Error('the operation is gone');
  const told = JSON.parse(operation.json) as Told;
  await refuseEnded(database, apiKeyId, told);
  const { state } = told;
  const now = new Date();
  const body = `{"type":"operation.${state}","timestamp":"${instantAt(now)}","data":${veil?.json(operation.json) ?? operation.json}}`;
  const signature = new Webhook(secret).sign(operationId, now, body);
  const headers = {
    'webhook-id': operationId,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': signature,
  };
  await post(url, headers, body, denied);
}

async function tryOnce(database: Database, log: Log, denied: BlockList, callback: DueCallback): Promise<void> {
  const { operationId, attempts } = callback;
  let outcome: (typeof outcomes)[number] = 'delivered';
  try {
    await deliver(database, denied, callback);
  } catch (error) {
    outcome = error instanceof RightEnded || attempts > pausesSeconds.length ? 'givenUp' : 'failed';
    log.warn(
      { operationId, attempts, error: error instanceof Error ? error.message : String(error) },
      outcome === 'givenUp' ? 'a callback was given up' : 'a callback failed; it is tried again',
    );
  }
  metrics.callbacks.labels(outcome).inc();
  if (outcome !== 'failed') await deleteCallback(database.connections, { operationId });
}

export interface Delivery {
  /** Begins what is due and has a place; answers how many that was. Resolves without waiting for what receivers answer. */
  begin(): Promise<number>;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

/** `wake` is called whenever a place is free again. */
export function callbackDelivery(database: Database, log: Log, wake: () => void): Delivery {
  const taken = new Map<string, number>();
  const underWay = new Set<Promise<void>>();
  const take = (accountId: string, places: number): void => {
    const now = (taken.get(accountId) ?? 0) + places;
    if (now > 0) taken.set(accountId, now);
    else taken.delete(accountId);
  };
  return {
    async begin() {
      if (underWay.size >= atOnce) return 0;
      const callbacks = await due(database, atOnce - underWay.size, taken);
      if (callbacks.length === 0) return 0;
      const denied = await deniedNetworks(database.connections);
      for (const callback of callbacks) {
        take(callback.accountId, 1);
        const tried = tryOnce(database, log, denied, callback)
          .catch((error: unknown) => log.warn({ error: String(error) }, 'the end of a callback could not be written'))
          .finally(() => {
            take(callback.accountId, -1);
            underWay.delete(tried);
            wake();
          });
        underWay.add(tried);
      }
      return callbacks.length;
    },
    async ended() {
      await Promise.all(underWay);
    },
  };
}
