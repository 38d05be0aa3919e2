/**
 * Which folder may import which: data goes down once and comes back once. `npm run imports` checks it.
 *
 * An arrow that is not in this table is an error. To allow one, add it here, and say in the commit why it is needed.
 */

/**
 * @typedef {object} Room
 * @property {string[]} may paths from the project's root, as regular expressions
 * @property {string[]} [mayTypesOf] paths of which types alone may be imported
 * @property {string[]} [packages] the npm packages it may use; all in package.json unless said
 * @property {false} [node] it may not use Node's own modules
 */
const startOperation = '^temporal/(connection|run|schedules|start-operation|search-attributes)\\.ts$';
const migrations = '^prisma/migrate\\.ts$';
/** How to reach a server over TLS; they know nothing of the product. */
const wires = '^runtime/(certificateFiles|postgresConnection)\\.ts$';
const objectStore = '^activities/storage/objects\\.ts$';
/** How targets of balancers answer is told by OVN alone. */
const southbound = '^activities/(network/ovsdbSocket|platform/southbound)\\.ts$';

/** @type {Record<string, Room>} */
const rooms = {
  model: { may: [], packages: ['typebox'], node: false },
  runtime: { may: ['^host-agent/', '^model/'] },
  database: { may: ['^model/', '^runtime/', '^generated/'] },
  // How a change is accepted. It knows no HTTP.
  acceptance: { may: ['^model/', '^database/', '^runtime/'] },
  api: {
    may: ['^(acceptance|model|database|runtime|generated)/', startOperation, migrations, objectStore, southbound],
  },
  // They run in Temporal's sandbox: deterministic, no I/O.
  workflows: {
    may: ['^model/', '^temporal/(run|search-attributes)\\.ts$', '^generated/workflows\\.ts$'],
    mayTypesOf: ['^activities/'],
    packages: ['@temporalio/workflow'],
    node: false,
  },
  activities: {
    may: ['^acceptance/', '^model/', '^database/', '^runtime/', '^host-agent/'],
    mayTypesOf: ['^generated/'],
  },
  workers: {
    may: [
      '^(model|database|runtime|generated|acceptance|api|workflows|activities|host-agent)/',
      startOperation,
      migrations,
    ],
  },
  'host-agent': { may: ['^model/'] },
  temporal: { may: ['^model/', '^postgres/', '^runtime/'] },
  postgres: { may: [wires] },
  prisma: { may: ['^postgres/', '^model/', wires] },
  // A client like any other: what it knows of the resources comes from the API's document.
  cli: { may: ['^generated/'] },
};

const inPackages = '(^|/)node_modules/';

/** The rules for one folder: what it may import at all, and what of that is for types alone. */
function rulesOf([folder, { may, mayTypesOf = [], packages, node }]) {
  const own = `^${folder}/`;
  const inside = { path: own };
  const always = [own, inPackages, ...may];
  return [
    {
      name: `${folder}-imports`,
      comment: `${folder}/ may import: ${[...may, ...mayTypesOf.map((path) => `types of ${path}`)].join(', ') || 'nothing'}`,
      severity: 'error',
      from: inside,
      to: { pathNot: [...always, ...mayTypesOf], dependencyTypesNot: ['core'] },
    },
    ...(mayTypesOf.length === 0
      ? []
      : [
          {
            name: `${folder}-types-only`,
            comment: `${folder}/ may import types alone from ${mayTypesOf.join(', ')}: write "import type"`,
            severity: 'error',
            from: inside,
            to: { path: mayTypesOf, preCompilationOnly: false },
          },
        ]),
    ...(packages === undefined
      ? []
      : [
          {
            name: `${folder}-packages`,
            comment: `${folder}/ may use no package but ${packages.join(', ')}`,
            severity: 'error',
            from: inside,
            to: { path: inPackages, pathNot: packages.map((name) => `${inPackages}${name}/`) },
          },
        ]),
    ...(node === false
      ? [
          {
            name: `${folder}-without-node`,
            comment: `${folder}/ uses none of Node's own modules`,
            severity: 'error',
            from: inside,
            to: { dependencyTypes: ['core'] },
          },
        ]
      : []),
  ];
}

const product = `^(${Object.keys(rooms).join('|')})/`;

module.exports = {
  forbidden: [
    ...Object.entries(rooms).flatMap(rulesOf),
    {
      name: 'storage-without-guests',
      comment: 'what guests are made of stands on storage, and storage knows of no guest',
      severity: 'error',
      from: { path: '^activities/storage/' },
      to: { path: '^activities/compute/' },
    },
    {
      name: 'storage-by-its-drivers',
      comment: 'compute and platform ask storage, and not what a pool is made of',
      severity: 'error',
      from: { path: '^activities/', pathNot: '^activities/storage/' },
      to: { path: '^activities/storage/(cephAccess|drivers/(?!index|driver\\.)[^/]+)\\.ts$' },
    },
    {
      name: 'no-cycles',
      comment: 'files that need each other at run time can not be understood, tested or loaded one without the other',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only', 'pre-compilation-only'] } },
    },
    {
      name: 'resolvable',
      comment: 'an import that leads nowhere',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'declared-packages',
      comment:
        'a package that package.json does not name, or names for development only; the prisma command is a tool of development',
      severity: 'error',
      from: { path: product, pathNot: '^prisma/(engine|create-migration)' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'undetermined'], preCompilationOnly: false },
    },
  ],
  options: {
    doNotFollow: { path: [inPackages, '^generated/'] },
    exclude: { path: ['^\\.belay/', '^dist/', '^\\.git/'] },
    tsPreCompilationDeps: 'specify',
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types'],
    },
  },
};
