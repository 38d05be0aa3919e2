/** A VPC as a picture in text, drawn from its graph. */
import type { paths } from '../generated/api.ts';
import { spoken } from './names.ts';
import type { painter } from './terminal.ts';

type Paint = ReturnType<typeof painter>;

export type Topology = paths['/v1/vpcs/{id}/views/topology']['get']['responses']['200']['content']['application/json'];
type Node = Topology['nodes'][number];

interface Branch {
  text: string;
  below: Branch[];
}

/** Top down: the ways out, the VPC itself, its networks, their subnets, and what has addresses there with what leads to it. */
export function diagramOf({ nodes, edges, complete }: Topology, paint: Paint): string {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const ends = (id: string, as: string, end: 'from' | 'to'): Node[] =>
    edges
      .filter((edge) => edge.as === as && edge[end === 'to' ? 'from' : 'to'] === id)
      .flatMap((edge) => byId.get(edge[end]) ?? [])
      .sort((one, other) => orderOf(one).localeCompare(orderOf(other), 'en', { numeric: true }));

  /** An interface is told by its instance. */
  const orderOf = (node: Node): string =>
    titleOf(
      edges.flatMap(({ from, as, to }) => (as === 'partOf' && from === node.id ? (byId.get(to) ?? []) : []))[0] ?? node,
    );

  const labelled = (node: Node): string =>
    [paint('cyan', titleOf(node)), kindInWords(node.kind), ...node.addresses, stateOf(node, paint)]
      .filter(Boolean)
      .join('  ');

  /** What leads there: a floating IP by its address, a port forward by that of its floating IP and its ports. */
  const wayTo = (node: Node): string[] =>
    ends(node.id, 'leadsTo', 'from').map((one) => {
      const at = one.kind === 'portForward' ? ends(one.id, 'holds', 'from').flatMap(({ addresses }) => addresses) : [];
      return ['←', ...one.addresses, ...at, ...(one.detail ? [one.detail] : [])].join(' ');
    });

  const ofInterface = (nic: Node): string => {
    const [instance] = ends(nic.id, 'partOf', 'to');
    const who = instance
      ? [paint('cyan', titleOf(instance)), stateOf(instance, paint)]
      : [paint('cyan', titleOf(nic)), 'attached to nothing'];
    return [...who, ...nic.addresses, ...wayTo(nic)].filter(Boolean).join('  ');
  };

  const branch = (node: Node): Branch => ({
    text: node.kind === 'networkInterface' ? ofInterface(node) : labelled(node),
    below: ends(node.id, 'holds', 'to').map(branch),
  });

  return nodes
    .filter(({ kind }) => kind === 'vpc')
    .flatMap((vpc) => [
      ...ends(vpc.id, 'wayOut', 'to').map((outside) => `${paint('cyan', titleOf(outside))}  outside\n│`),
      ...linesOf(branch(vpc)),
      ...(complete ? [] : ['… and more than is told at once']),
    ])
    .join('\n')
    .concat('\n');
}

const titleOf = ({ name, id, addresses }: Node): string => name || addresses[0] || id;

const kindInWords = (kind: string): string => (kind === 'vpc' ? 'VPC' : spoken(kind));

/** What is as it should be is not told. */
const stateOf = ({ state }: Node, paint: Paint): string =>
  state === null || state === 'ready' || state === 'running' ? '' : paint('yellow', state);

function linesOf({ text, below }: Branch): string[] {
  return [
    text,
    ...below.flatMap((one, at) => {
      const isLast = at === below.length - 1;
      return linesOf(one).map((line, row) => `${row === 0 ? (isLast ? '└─ ' : '├─ ') : isLast ? '   ' : '│  '}${line}`);
    }),
  ];
}
