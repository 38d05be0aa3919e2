interface Rule {
  effect: 'allow' | 'deny';
  pattern: string;
}
export interface BuiltInRole {
  summary: string;
  boundAt: 'platform' | 'domain' | 'account' | 'project' | 'resource';
  permissions: Rule[];
}

const allow = (...patterns: string[]): Rule[] => patterns.map((pattern) => ({ effect: 'allow', pattern }));
const deny = (...patterns: string[]): Rule[] => patterns.map((pattern) => ({ effect: 'deny', pattern }));

const read = (...kinds: string[]): string[] => kinds.flatMap((kind) => [`${kind}.get`, `${kind}.list`]);
const infrastructure = [
  'zone',
  'pod',
  'cluster',
  'host',
  'controlNode',
  'storageCluster',
  'storagePool',
  'backupStore',
  'volumeType',
  'instanceType',
  'physicalNetwork',
  'routerType',
];
const catalogue = read('zone', 'instanceType', 'volumeType', 'routerType', 'role', 'operationType', 'image');
/** What making resources names of it. */
const offered = ['zone.use', 'instanceType.use', 'volumeType.use', 'routerType.use', 'image.use'];
const tenantKinds = [
  'instance',
  'volume',
  'snapshot',
  'image',
  'vpc',
  'routeTable',
  'floatingIp',
  'portForward',
  'targetGroup',
  'loadBalancer',
  'listener',
  'network',
  'subnet',
  'networkInterface',
  'addressGroup',
  'certificate',
  'securityGroup',
  'firewallPolicy',
  'keyPair',
  'schedule',
];
const trace = read('operation', 'event', 'auditEntry');
/** What those who use it ask of it. */
const ofOperations = ['operation.cancel', 'operation.runMany'];
const everything = (kinds: string[]): string[] => kinds.map((kind) => `${kind}.*`);

/** The ready-made roles. */
export const builtInRoles: Record<string, BuiltInRole> = {
  rootAdmin: { summary: 'May do everything', boundAt: 'platform', permissions: allow('*.*') },
  rootReadOnly: {
    summary: 'May see everything',
    boundAt: 'platform',
    permissions: allow(
      '*.get',
      '*.list',
      '*.deletePlan',
      '*.metrics',
      '*.allowedTraffic',
      '*.attachments',
      '*.topology',
      '*.health',
    ),
  },
  // It sees which instances there are and where, and brings them on when their host has failed; nothing that a guest has said or was told.
  operator: {
    summary:
      "Runs the infrastructure, without tenants' data; of instances it sees where they are, and brings on those of failed hosts",
    boundAt: 'platform',
    permissions: allow(
      ...everything([...infrastructure, 'schedule', 'finding']),
      'operation.*',
      'setting.*',
      ...read('instance'),
      'instance.settle',
      'instance.restartElsewhere',
      ...read('operationType', 'event', 'auditEntry', 'role'),
    ),
  },
  support: {
    summary: "Sees tenants' resources and operations",
    boundAt: 'platform',
    permissions: allow(
      ...read(...tenantKinds),
      'instance.metrics',
      'networkInterface.allowedTraffic',
      'firewallPolicy.attachments',
      'vpc.topology',
      'targetGroup.health',
      ...catalogue,
      ...trace,
      ...read('account', 'project', 'user'),
    ),
  },
  domainAdmin: {
    summary: 'Runs the accounts of a domain',
    boundAt: 'domain',
    permissions: [
      ...allow(
        ...everything([...tenantKinds, 'domain', 'account', 'project', 'user', 'apiKey', 'roleBinding']),
        ...read('quota'),
        ...catalogue,
        ...offered,
        ...trace,
        ...ofOperations,
      ),
      ...deny('domain.delete'),
    ],
  },
  accountOwner: {
    summary: 'Runs an account: its projects, users and resources',
    boundAt: 'account',
    permissions: allow(
      ...everything([...tenantKinds, 'project', 'user', 'apiKey', 'roleBinding']),
      ...read('account', 'quota'),
      ...catalogue,
      ...offered,
      ...trace,
      ...ofOperations,
    ),
  },
  billingManager: {
    summary: 'Sees an account and what it uses',
    boundAt: 'account',
    permissions: allow(...read('account', 'project', 'quota'), ...catalogue),
  },
  projectAdmin: {
    summary: 'Runs a project and who may use it',
    boundAt: 'project',
    permissions: allow(
      ...everything([...tenantKinds, 'roleBinding']),
      ...read('project', 'quota'),
      ...catalogue,
      ...offered,
      ...trace,
      ...ofOperations,
      'apiKey.*',
    ),
  },
  projectMember: {
    summary: 'Makes and runs resources of a project',
    boundAt: 'project',
    permissions: allow(
      ...everything(tenantKinds),
      ...read('project', 'quota'),
      ...catalogue,
      ...offered,
      ...trace,
      ...ofOperations,
      'apiKey.*',
    ),
  },
  projectReader: {
    summary: 'Sees a project',
    boundAt: 'project',
    permissions: allow(
      ...read(...tenantKinds, 'project', 'quota'),
      'instance.metrics',
      'networkInterface.allowedTraffic',
      'firewallPolicy.attachments',
      'vpc.topology',
      'targetGroup.health',
      ...catalogue,
      ...trace,
    ),
  },
  imageUser: {
    summary: 'May use a shared image',
    boundAt: 'resource',
    permissions: allow(...read('image'), 'image.use'),
  },
  networkUser: {
    summary: 'May attach to a shared network',
    boundAt: 'resource',
    permissions: allow(...read('network', 'subnet'), 'network.use', 'subnet.use'),
  },
  offeringUser: {
    summary: 'May use a private instance or volume type',
    boundAt: 'resource',
    permissions: allow(
      ...read('instanceType', 'volumeType', 'routerType'),
      'instanceType.use',
      'volumeType.use',
      'routerType.use',
    ),
  },
};
