import { Type } from 'typebox';
import { Instant, type Kind, object, oneOf, Uuid, type View } from './kind.ts';

const named = { kind: Type.String(), id: Uuid, name: Type.String() };

/** On every kind that can be deleted. */
const deletePlan: View = {
  summary: 'What a delete would take along, in order, and what is in its way',
  answer: object({
    deletable: Type.Boolean({ description: 'A delete would be accepted now' }),
    refusal: Type.Union([object({ code: Type.String(), message: Type.String() }), Type.Null()], {
      description: 'What a delete would be refused with now',
    }),
    takes: Type.Array(
      object({
        ...named,
        by: { ...oneOf('own', 'cascade', 'detach', 'target'), description: 'cascade: only when asked for' },
      }),
      { description: 'The first goes first; the last is the resource itself' },
    ),
    blockers: Type.Array(object({ ...named, reason: oneOf('dependent', 'deleteProtection', 'managed') })),
    complete: Type.Boolean({ description: 'There is no more, neither beyond the limit nor what you may not see' }),
  }),
};

/** The views of a kind: those it declares, and what every kind of its sort has. */
export const viewsOf = (kind: Kind): Readonly<Record<string, View>> => ({
  ...(kind.actions.delete ? { deletePlan } : {}),
  ...kind.views,
});

const bytes = Type.Integer({ minimum: 0 });
const count = Type.Integer({ minimum: 0 });
const cpuSeconds = Type.Number({ minimum: 0, description: 'Since it started' });

/** What a host uses right now; counters rise from its start. */
export const hostMetrics: View = {
  summary: 'What it uses: processors, memory, network',
  answer: object({
    measuredAt: Instant,
    cpuSeconds,
    cpuCount: count,
    load1: Type.Number({ minimum: 0 }),
    memoryTotalBytes: bytes,
    memoryAvailableBytes: bytes,
    networkReceivedBytes: bytes,
    networkSentBytes: bytes,
  }),
};

/** What an instance uses right now; counters rise from the start of its guest on this host. */
export const instanceMetrics: View = {
  summary: 'What it uses: processors, memory, disks, network',
  answer: object({
    measuredAt: Instant,
    cpuSeconds,
    memoryBytes: bytes,
    diskReadBytes: bytes,
    diskWrittenBytes: bytes,
    diskReadOperations: count,
    diskWriteOperations: count,
    networkReceivedBytes: bytes,
    networkSentBytes: bytes,
  }),
};
