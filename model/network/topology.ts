/** A VPC as a graph: what is in it, and how it hangs together. */
import { Type } from 'typebox';
import { object, oneOf, Uuid, type View } from '../kind.ts';

export const topologyPageSize = 500;

const words = Type.Union([Type.String(), Type.Null()]);

const node = object({
  kind: oneOf(
    'vpc',
    'network',
    'subnet',
    'networkInterface',
    'instance',
    'floatingIp',
    'portForward',
    'loadBalancer',
    'listener',
    'targetGroup',
    'routeTable',
  ),
  id: Uuid,
  name: words,
  state: words,
  addresses: Type.Array(Type.String(), { description: 'Those that it has; of a VPC and a subnet ranges' }),
  detail: {
    ...words,
    description: 'Of a port forward and a listener the protocol and the ports, such as `tcp 443 → 8443`',
  },
});

const edge = object({
  from: Uuid,
  to: Uuid,
  as: {
    ...oneOf('wayOut', 'holds', 'partOf', 'leadsTo'),
    description:
      'wayOut: the VPC has an uplink to this network outside. holds: the second lies in the first. partOf: an interface is of this instance. leadsTo: what comes to the first goes to the second',
  },
});

export const topology: View = {
  summary: 'What is in it as a graph, as far as the caller may see it',
  answer: object({
    nodes: Type.Array(node),
    edges: Type.Array(edge, { description: 'Between nodes that are told' }),
    complete: Type.Boolean({
      description: `false: of some kind there are more than the ${topologyPageSize} that are told`,
    }),
  }),
};
