/**
 * Tells callers that their operation has ended: one POST, signed as Standard Webhooks lays down (standardwebhooks.com), repeated with the
 * same id until the receiver answers with a 2xx or the attempts are used up.
 */

import { lookup } from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import { type BlockList, isIP, type LookupFunction } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { strangersVeil } from '../acceptance/veil.ts';
import type { Visible } from '../acceptance/visible.ts';
import { readById } from '../api/query/gather.ts';
import { callbackSecretField, deniedNetworks, isDenied } from '../database/callbacks.ts';
import { type Database, run } from '../database/database.ts';
import { readSecret } from '../database/secrets.ts';
import { instantAt } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { finalOperationStates } from '../model/platform/operation.ts';
import type { Log } from '../runtime/log.ts';
import { metrics } from '../runtime/metrics.ts';

/** Before the second, third … attempt; after the last pause it is given up. */
const pausesSeconds = [5, 30, 300, 1800, 7200];
const atOnce = 20;
const answerLimitMs = 10_000;

interface Due {
  operationId: string;
  apiKeyId: string;
  url: string;
  attempts: number;
}

/** It was this caller's own operation; but who gets the message is known to nobody, so it says of the platform what everybody may know. */
const veil = strangersVeil();
const everything: Visible = Object.assign((): null => null, { veil });

/** Takes callbacks whose operation has ended and whose time has come; another dispatcher passes them over meanwhile. */
const due = (database: Database): Promise<Due[]> =>
  run<Due>(
    database.pool,
    `UPDATE "callback" c SET attempts = c.attempts + 1, "nextAttemptAt" = now() + make_interval(secs => ($2::int[])[least(c.attempts + 1, cardinality($2::int[]))])
     FROM (SELECT c."operationId" FROM "callback" c JOIN "operation" o ON o.id = c."operationId"
           WHERE c."nextAttemptAt" <= now() AND o.state = ANY($1::text[]) ORDER BY c."nextAttemptAt" LIMIT ${atOnce} FOR UPDATE OF c SKIP LOCKED) ready
     WHERE c."operationId" = ready."operationId" RETURNING c."operationId", c."apiKeyId", c.url, c.attempts`,
    [finalOperationStates, pausesSeconds],
  );

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

async function deliver(database: Database, denied: BlockList, callback: Due): Promise<void> {
  const { operationId, apiKeyId, url } = callback;
  const secret = await readSecret(database, { kind: 'apiKey', id: apiKeyId }, callbackSecretField);
  if (secret === null) throw new Error('the API key that asked for it is gone');
  const operation = await readById(database.pool, kindOf('operation') as Kind, operationId, {
    visible: everything,
    showDeleted: true,
  });
  if (!operation) throw new Error('the operation is gone');
  const { state } = JSON.parse(operation.json) as { state: string };
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

/** Delivers what is due; answers how many it tried. */
export async function deliverCallbacks(database: Database, log: Log): Promise<number> {
  const callbacks = await due(database);
  if (callbacks.length === 0) return 0;
  const denied = await deniedNetworks(database.pool);
  await Promise.all(
    callbacks.map(async (callback) => {
      const { operationId, attempts } = callback;
      let outcome = 'delivered';
      try {
        await deliver(database, denied, callback);
      } catch (error) {
        outcome = attempts > pausesSeconds.length ? 'givenUp' : 'failed';
        log.warn(
          { operationId, attempts, error: error instanceof Error ? error.message : String(error) },
          outcome === 'givenUp' ? 'a callback was given up' : 'a callback failed; it is tried again',
        );
      }
      metrics.callbacks.labels(outcome).inc();
      if (outcome !== 'failed')
        await run(database.pool, 'DELETE FROM "callback" WHERE "operationId" = $1', [operationId]);
    }),
  );
  return callbacks.length;
}
