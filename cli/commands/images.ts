/** The bytes of images. */
import { createReadStream } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';
import { request as overHttp } from 'node:http';
import { request as overHttps } from 'node:https';
import type { Readable } from 'node:stream';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { type Operation, type ProblemDocument, Refused, Unreachable } from '../client.ts';
import type { Resource } from '../document.ts';
import { Usage } from '../exit-codes.ts';
import { idOf } from '../names.ts';
import { valueAt } from '../output.ts';
import { resourceNamed, type Session, send } from '../session.ts';
import { addConnectionOptions, addOutputOptions, addWaitOptions, type Options, textOption } from './options.ts';
import { changeCommandWith, tellOperation } from './resource.ts';

/** `belay images upload <image> <file>` */
export function uploadCommand(session: Session): Command {
  const command = new Command('upload')
    .description('Send the bytes of an announced image')
    .argument('<id|name>', 'The image, by id or name')
    .argument('<file>', 'qcow2 or raw; - for standard input');
  addWaitOptions(command);
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (name: string, file: string, options: Options) => {
    const source = await openSource(session, file);
    const id = await idOf(session, resourceNamed(session, 'image'), name);
    await tellOperation(session, await upload(session, id, source), options);
  });
}

/** `belay images create … --file disk.qcow2`: announces the image and sends its bytes. */
export function createImageCommand(session: Session, resource: Resource): Command {
  const verb = resource.verbs.find(({ name }) => name === 'create');
  const command = new Command('create').description('Announce an image; with --file its bytes are sent, too');
  if (!verb) return command;
  command.option('--file <file>', 'qcow2 or raw, sent once the image is announced; - for standard input');
  return changeCommandWith(command, session, resource, verb, {
    async check(options) {
      const file = textOption(options, 'file');
      if (options.wait && file === undefined)
        throw new Usage('--wait needs --file: without its bytes an image stays announced');
      if (file !== undefined) await sizeOf(file);
    },
    async start(image, options) {
      const file = textOption(options, 'file');
      if (file === undefined) return null;
      const id = String(valueAt(image, 'id'));
      try {
        return await upload(session, id, await openSource(session, file));
      } catch (error) {
        session.tell(`the image is announced, but has no bytes yet; send them with: belay images upload ${id} ${file}`);
        throw error;
      }
    },
  });
}

interface Source {
  stream: Readable;
  /** Unknown of what comes from a pipe. */
  bytes: number | null;
}

/** Null of what comes from a pipe. */
async function sizeOf(file: string): Promise<number | null> {
  if (file === '-') return null;
  try {
    const facts = await stat(file);
    if (facts.isDirectory()) throw new Error('it is a directory');
    await access(file, constants.R_OK);
    return facts.isFile() ? facts.size : null;
  } catch (error) {
    throw new Usage(`${file} can not be read: ${(error as Error).message}`);
  }
}

async function openSource({ terminal }: Session, file: string): Promise<Source> {
  const bytes = await sizeOf(file);
  return { bytes, stream: file === '-' ? terminal.stdin : createReadStream(file, { highWaterMark: 1 << 20 }) };
}

const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`;

/** Counts what passes, and tells it on a terminal five times a second; `tellAll` says once how much it was. */
function meter({ terminal }: Session, total: number | null): { counting: Transform; tellAll(): void } {
  const { stderr } = terminal;
  const started = performance.now();
  let bytes = 0;
  let told = 0;
  let toldAll = false;
  const counting = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      const now = performance.now();
      if (stderr.isTTY && now - told > 200) {
        told = now;
        const share = total ? ` of ${mib(total)}, ${Math.floor((bytes / total) * 100)} %` : '';
        stderr.write(`\r\u001b[K  … ${mib(bytes)}${share}, ${mib((bytes / (now - started)) * 1000)}/s`);
      }
      done(null, chunk);
    },
    flush(done) {
      tellAll();
      done();
    },
  });
  function tellAll(): void {
    if (toldAll) return;
    toldAll = true;
    if (stderr.isTTY) stderr.write('\r\u001b[K');
    stderr.write(`  sent ${mib(bytes)} in ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
  }
  return { counting, tellAll };
}

/**
 * Sends the bytes and answers the operation that imports them. Not with fetch: that can not say a stream's length, and does not hear
 * a refusal before everything was sent.
 */
function upload(session: Session, id: string, { stream, bytes }: Source): Promise<Operation> {
  const { url, token } = session.configuration();
  const address = new URL(`${url}/v1/images/${id}/content`);
  const { signal } = session.terminal;
  const { counting, tellAll } = meter(session, bytes);
  return new Promise((resolve, reject) => {
    const request = (address.protocol === 'https:' ? overHttps : overHttp)(address, {
      method: 'PUT',
      headers: {
        'Content-Type': 'application/octet-stream',
        ...(bytes === null ? {} : { 'Content-Length': bytes }),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      signal,
    });
    let answered = false;
    const broken = (error: NodeJS.ErrnoException): void => {
      if (answered) return;
      answered = true;
      const unreachable = new Unreachable(`${url} can not be reached: ${error.message}`, { cause: error });
      if (signal.aborted) reject(error);
      // A refusal is lost when its connection is closed on bytes that were still coming; the image itself says it again.
      else if (error.code === 'EPIPE' || error.code === 'ECONNRESET')
        send(session, { method: 'get', path: '/v1/images/{id}', id }).then(() => reject(unreachable), reject);
      else reject(unreachable);
    };
    request.once('response', (response) => {
      answered = true;
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        request.destroy();
        stream.destroy();
        const text = Buffer.concat(chunks).toString('utf8');
        let body: unknown;
        try {
          body = JSON.parse(text);
        } catch {
          return reject(new Unreachable(`${url} answered ${response.statusCode} and no JSON`));
        }
        if (response.statusCode === 202) {
          // The API has counted the bytes itself, and may answer the last of them before the end of the stream is noticed here.
          tellAll();
          return resolve(body as Operation);
        }
        reject(new Refused(response.statusCode ?? 0, body as ProblemDocument));
      });
    });
    request.on('error', broken);
    pipeline(stream, counting, request).catch(broken);
  });
}
