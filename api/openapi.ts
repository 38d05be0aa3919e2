/** The OpenAPI 3.1 document, made from the model. */
import { cascade } from '../model/cascade.ts';
import { type Action, type Kind, nameOf } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { createSchema, type JsonSchema, pascal, patchSchema, resourceSchema } from '../model/schemas.ts';
import { viewsOf } from '../model/views.ts';
import { problemStatus } from '../runtime/problem.ts';
import { release } from '../runtime/release.ts';

const ref = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: JsonSchema): JsonSchema => ({ 'application/json': { schema } });
const answer = (description: string, schema?: JsonSchema): JsonSchema => ({
  description,
  ...(schema ? { content: json(schema) } : {}),
});

const problems = (...statuses: number[]): Record<string, JsonSchema> =>
  Object.fromEntries(
    statuses.map((status) => [
      String(status),
      { description: 'Refused; see code', content: { 'application/problem+json': { schema: ref('Problem') } } },
    ]),
  );

const query = (name: string, schema: JsonSchema, description: string): JsonSchema => ({
  name,
  in: 'query',
  required: false,
  schema,
  description,
});
const header = (name: string, schema: JsonSchema, description: string): JsonSchema => ({
  name,
  in: 'header',
  required: false,
  schema,
  description,
});

const idParameter: JsonSchema = { name: 'id', in: 'path', required: true, schema: { type: 'string', format: 'uuid' } };
const fields = query('fields', { type: 'string', maxLength: 1024 }, 'Comma-separated names of the fields to answer');
const showDeleted = query('showDeleted', { type: 'boolean' }, 'Also answer tombstones');
const listParameters: JsonSchema[] = [
  query(
    'filter',
    { type: 'string', maxLength: 4096 },
    'AIP-160 filter over every field, also across relations: `state = "running" AND host.cluster.name = "a"`',
  ),
  query('orderBy', { type: 'string', maxLength: 256 }, 'Such as `createdAt desc`'),
  query('pageSize', { type: 'integer', minimum: 1, maximum: 500, default: 50 }, 'Items on a page'),
  query('pageToken', { type: 'string', maxLength: 2048 }, '`nextPageToken` of the page before'),
  query('count', { type: 'string', enum: ['none', 'exact'] }, 'Whether to count all matches'),
  fields,
  showDeleted,
];
const dryRun = query('dryRun', { type: 'boolean' }, 'Answer the plan and change nothing');
const onBusy = query('onBusy', { type: 'string', enum: ['queue', 'fail'] }, 'Wait in line, or fail with RESOURCE_BUSY');
const idempotencyKey = header(
  'Idempotency-Key',
  { type: 'string', maxLength: 128 },
  'The same key and body give the first answer again, for 24 hours',
);
const callbackUrl = header(
  'Belay-Callback-Url',
  { type: 'string', format: 'uri', maxLength: 2048 },
  'Where to send the operation when it has ended: one POST, signed with the callback secret of the API key (Standard Webhooks)',
);
const preferWait = header(
  'Prefer',
  { type: 'string' },
  '`wait=N`: answer when the operation has ended, at most N ≤ 60 seconds later',
);
const ifMatch = header('If-Match', { type: 'string' }, 'The revision in quotes');
const lastEventId = header(
  'Last-Event-ID',
  { type: 'string', pattern: '^[0-9]{1,15}$' },
  'Only with follow: go on behind it',
);

/** What may be asked of a change beside its body. An operation itself is only asked something: nothing is made that could wait. */
function changeParameters({ mode, asked }: Action, existing: boolean): JsonSchema[] {
  if (asked === 'run') return [dryRun, ifMatch];
  return [
    dryRun,
    ...(mode === 'operation' ? [onBusy, preferWait, callbackUrl] : []),
    idempotencyKey,
    ...(existing ? [ifMatch] : []),
  ];
}

const changeProblems = problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 500, 503);
const readProblems = problems(400, 401, 403, 404, 413, 422, 429, 500, 503);

const viewProblems = problems(400, 401, 403, 404, 409, 422, 429, 500, 503, 504);

const areas: Record<string, string> = {
  platform: 'What there is to run on, what has been done, and the installation itself',
  compute: 'Virtual machines, and what they are made after',
  storage: 'Disks, their snapshots, and where they lie',
  network: 'Networks, addresses, and who may talk to whom',
  tenancy: 'Whose things are, and who may do what with them',
};

/** What an action asks for and does, told from the model: permission, states, steps, and from where on there is no way back. */
function storyOf(kind: Kind, verb: string, { mode, from, steps, pointOfNoReturn, operatorOnly }: Action): string {
  const named = steps?.map((step) => `\`${nameOf(step)}\``).join(', ');
  return [
    `Needs the permission \`${kind.name}.${verb}\`${operatorOnly ? ', which operators have' : ''}.`,
    ...(from ? [`Possible in: ${from.join(', ')}.`] : []),
    mode === 'operation'
      ? 'Accepted as an operation: what was done is undone as a whole when a step fails.'
      : 'Done when it is answered.',
    ...(named ? [`Steps: ${named}.`] : []),
    ...(pointOfNoReturn ? [`From \`${pointOfNoReturn}\` on it only goes forward.`] : []),
  ].join(' ');
}

const listStory = ({ name, plural }: Kind): string =>
  `One page of the ${plural.replaceAll('-', ' ')} that the caller may see, which takes the permission \`${name}.list\`. Filtered by any field, also across relations; pages are ` +
  'followed by their token and never repeat or skip what was there all the time.';

const emptyObject: JsonSchema = { type: 'object', properties: {}, additionalProperties: false };

function pathsOf(kind: Kind): Record<string, JsonSchema> {
  const root = `/v1/${kind.plural}`;
  const name = pascal(kind.name);
  const { create, update, delete: remove, ...actions } = kind.actions;
  const tags = [kind.area];
  const changed = (mode: 'sync' | 'operation', done: JsonSchema): Record<string, JsonSchema> =>
    mode === 'operation'
      ? { '200': answer('The plan of a dry run', ref('Plan')), '202': answer('Accepted', ref('Operation')) }
      : { '200': answer('The plan of a dry run', ref('Plan')), ...done };
  const paths: Record<string, JsonSchema> = {
    [root]: {
      get: {
        operationId: `list${pascal(kind.plural.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase()))}`,
        summary: `List ${kind.plural.replaceAll('-', ' ')}`,
        description: listStory(kind),
        tags,
        parameters: kind.followed
          ? [
              ...listParameters,
              query(
                'follow',
                { type: 'string', enum: ['true'] },
                'Stream events as they happen; only filter goes with it',
              ),
              lastEventId,
            ]
          : listParameters,
        responses: {
          '200': {
            description: 'A page',
            content: {
              ...json(ref(`${name}List`)),
              ...(kind.followed ? { 'text/event-stream': { schema: { type: 'string' } } } : {}),
            },
          },
          ...readProblems,
        },
      },
      ...(create
        ? {
            post: {
              operationId: `create${name}`,
              summary: create.summary,
              description: storyOf(kind, 'create', create),
              tags,
              parameters: changeParameters(create, false),
              requestBody: { required: true, content: json(ref(`${name}Create`)) },
              responses: { ...changed(create.mode, { '201': answer('Made', ref(name)) }), ...changeProblems },
            },
          }
        : {}),
    },
    [`${root}/{id}`]: {
      parameters: [idParameter],
      get: {
        operationId: `get${name}`,
        summary: `Read one: ${kind.summary.charAt(0).toLowerCase()}${kind.summary.slice(1)}`,
        description: `Needs the permission \`${kind.name}.get\`; what the caller may not see is not found.`,
        tags,
        parameters: [
          fields,
          showDeleted,
          ...(kind.ends
            ? [
                query(
                  'waitSeconds',
                  { type: 'integer', minimum: 0, maximum: 60 },
                  'Answer when it has ended, at most so much later',
                ),
              ]
            : []),
        ],
        responses: { '200': answer('The resource', ref(name)), ...readProblems },
      },
      ...(update
        ? {
            patch: {
              operationId: `update${name}`,
              summary: update.summary,
              description: `A merge patch (RFC 7396): only what is named changes. ${storyOf(kind, 'update', update)}`,
              tags,
              parameters: changeParameters(update, true),
              requestBody: {
                required: true,
                content: {
                  'application/merge-patch+json': { schema: ref(`${name}Update`) },
                  ...json(ref(`${name}Update`)),
                },
              },
              responses: {
                ...changed(update.mode, {
                  '200': answer('Changed, or the plan of a dry run', { anyOf: [ref(name), ref('Plan')] }),
                }),
                ...changeProblems,
              },
            },
          }
        : {}),
      ...(remove
        ? {
            delete: {
              operationId: `delete${name}`,
              summary: remove.summary,
              description: storyOf(kind, 'delete', remove),
              tags,
              parameters: [
                // With what hangs on it, every delete is an operation.
                ...changeParameters(cascade, true),
                ...Object.entries({
                  ...((remove.input as unknown as JsonSchema | undefined)?.properties ?? {}),
                  ...((cascade.input as unknown as JsonSchema).properties as object),
                } as Record<string, JsonSchema>).map(([parameter, { description, ...schema }]) =>
                  query(parameter, schema, String(description ?? '')),
                ),
              ],
              responses: {
                ...changed('operation', {}),
                ...(remove.mode === 'sync' ? { '204': answer('Gone') } : {}),
                ...changeProblems,
              },
            },
          }
        : {}),
    },
  };
  for (const [verb, action] of Object.entries(actions)) {
    if (action.asked === 'upload' || action.on === 'delete') continue;
    const input = (action.input as unknown as JsonSchema | undefined) ?? emptyObject;
    const collective = action.on === 'collection';
    paths[collective ? `${root}/actions/${verb}` : `${root}/{id}/actions/${verb}`] = {
      ...(collective ? {} : { parameters: [idParameter] }),
      post: {
        operationId: `${verb}${name}`,
        summary: action.summary,
        description: storyOf(kind, verb, action),
        tags,
        parameters: changeParameters(action, !collective),
        requestBody: { required: ((input.required as string[] | undefined) ?? []).length > 0, content: json(input) },
        responses: {
          ...changed(action.mode, {
            '200': answer('Done, or the plan of a dry run', { anyOf: [ref(name), ref('Plan')] }),
          }),
          ...changeProblems,
        },
      },
    };
  }
  for (const [view, { summary, answer: schema, parameters = {}, needed }] of Object.entries(viewsOf(kind)))
    paths[`${root}/{id}/views/${view}`] = {
      parameters: [idParameter],
      get: {
        operationId: `${view}Of${name}`,
        summary,
        description: `Needs the permission \`${kind.name}.get\`; worked out when it is asked for.`,
        tags,
        parameters: Object.entries(parameters).map(([parameter, wanted]) => {
          const { description, ...plain } = wanted as unknown as JsonSchema & { description: string };
          return { ...query(parameter, plain, description), required: needed?.includes(parameter) ?? false };
        }),
        responses: {
          '200': {
            description: 'The view',
            content: schema ? json(schema as unknown as JsonSchema) : { 'text/plain': { schema: { type: 'string' } } },
          },
          ...viewProblems,
        },
      },
    };
  return paths;
}

const operationNamed: JsonSchema = { type: 'object', properties: { kind: { type: 'string' }, id: { type: 'string' } } };

export function openApiDocument(): JsonSchema {
  const schemas: Record<string, JsonSchema> = {
    Problem: {
      type: 'object',
      description: 'RFC 9457',
      required: ['type', 'title', 'status', 'detail', 'code', 'requestId'],
      properties: {
        type: { type: 'string' },
        title: { type: 'string' },
        status: { type: 'integer' },
        detail: { type: 'string' },
        code: { type: 'string', enum: Object.keys(problemStatus) },
        requestId: { type: 'string' },
        operationId: { type: 'string', format: 'uuid' },
        resource: operationNamed,
        blockers: { type: 'array', items: operationNamed },
        violations: {
          type: 'array',
          items: {
            type: 'object',
            required: ['field', 'message'],
            properties: { field: { type: 'string' }, message: { type: 'string' }, position: { type: 'integer' } },
          },
        },
        retryAfterSeconds: { type: 'integer' },
      },
    },
    Plan: {
      type: 'object',
      description: 'What a change would do',
      required: ['steps', 'locks', 'quotaDelta', 'warnings'],
      properties: {
        steps: { type: 'array', items: { type: 'object' } },
        pointOfNoReturn: { type: ['string', 'null'] },
        locks: { type: 'array', items: { type: 'object' } },
        placement: {},
        quotaDelta: { type: 'object' },
        costDelta: {},
        waits: { type: 'boolean', description: 'It would wait for another operation' },
        warnings: { type: 'array', items: { type: 'string' } },
        plan: {
          description:
            'What would be done in all, such as which instances would move where; null where the steps say it',
        },
      },
    },
  };
  for (const kind of allKinds) {
    const name = pascal(kind.name);
    const resource = resourceSchema(kind);
    for (const [field, description] of Object.entries(kind.toldOnce ?? {}))
      Object.assign(resource.properties as Record<string, JsonSchema>, { [field]: { type: 'string', description } });
    schemas[name] = resource;
    schemas[`${name}List`] = {
      type: 'object',
      required: ['items', 'nextPageToken'],
      properties: {
        items: { type: 'array', items: ref(name) },
        nextPageToken: { type: ['string', 'null'] },
        count: { type: 'integer' },
      },
    };
    if (kind.actions.create) schemas[`${name}Create`] = createSchema(kind);
    if (kind.actions.update) schemas[`${name}Update`] = patchSchema(kind);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Belay',
      version: release,
      description:
        'A cloud control plane. Every change of something real is an operation: durable, observable, undone as a whole when a step fails.',
      contact: { name: 'Whoever runs this installation' },
      license: { name: 'Apache License 2.0', identifier: 'Apache-2.0' },
    },
    security: [{ apiKey: [] }],
    servers: [{ url: '/', description: 'Where this document came from' }],
    tags: Object.entries(areas).map(([name, description]) => ({ name, description })),
    paths: {
      ...Object.assign({}, ...allKinds.map(pathsOf)),
      '/v1/query': {
        post: {
          operationId: 'query',
          summary: 'Several lists, answered from one snapshot of the database',
          description: 'Each list takes what the list of its kind takes, and the same permission.',
          tags: ['platform'],
          requestBody: {
            required: true,
            content: json({
              type: 'object',
              minProperties: 1,
              maxProperties: 20,
              additionalProperties: {
                type: 'object',
                required: ['kind'],
                additionalProperties: false,
                properties: {
                  kind: { type: 'string', enum: allKinds.map((kind) => kind.name) },
                  filter: { type: 'string', maxLength: 4096 },
                  orderBy: { type: 'string', maxLength: 256 },
                  pageSize: { type: 'integer', minimum: 1, maximum: 500 },
                  pageToken: { type: 'string', maxLength: 2048 },
                  count: { type: 'string', enum: ['none', 'exact'] },
                  fields: { type: 'string', maxLength: 1024 },
                  showDeleted: { type: 'boolean' },
                },
              },
            }),
          },
          responses: { '200': answer('A page per name', { type: 'object' }), ...changeProblems },
        },
      },
      '/v1/images/{id}/content': {
        parameters: [idParameter],
        put: {
          operationId: 'uploadImage',
          summary: 'The bytes of an announced image; checked while they arrive',
          description:
            'Needs the permission `image.import`. The image becomes ready by an operation, which is answered once all bytes are here.',
          tags: ['storage'],
          requestBody: {
            required: true,
            content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } },
          },
          responses: { '202': answer('Accepted', ref('Operation')), ...changeProblems },
        },
      },
      '/v1/about': {
        get: {
          operationId: 'about',
          summary: 'Version, region, time',
          description: 'Needs no credential.',
          tags: ['platform'],
          security: [],
          responses: { '200': answer('About', { type: 'object' }), ...problems(429, 500) },
        },
      },
      '/v1/openapi.json': {
        get: {
          operationId: 'openapi',
          summary: 'This document',
          description: 'Needs no credential.',
          tags: ['platform'],
          security: [],
          responses: { '200': answer('OpenAPI 3.1', { type: 'object' }), ...problems(429, 500) },
        },
      },
    },
    components: { schemas, securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
  };
}
