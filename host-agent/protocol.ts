/**
 * What a worker may ask of a host. Real agents and simulated hosts speak exactly this.
 *
 * HTTP with JSON bodies, on a unix socket behind SSH (real) or a path prefix of one port (simulated):
 *
 *     POST   /v1/calls/<name>          input            → 200 result | 4xx/5xx AgentProblem
 *     PUT    /v1/tasks/<taskId>        { name, input }  → 200 Task; starts it, or attaches to the one that has this id
 *     GET    /v1/tasks/<taskId>?waitSeconds=20          → 200 Task; answers early when it ends or its progress changes
 *     DELETE /v1/tasks/<taskId>                         → 200 Task; cancels, answers when it has ended
 *     GET    /v1/events?clock=true                      → 200 stream of HostEvent, one JSON object per line; empty lines are signs of life
 *     GET    /v1/domains/<id>/serial?follow=true        → 200 stream of the raw serial log; it ends when the guest has left
 *                               &arrived=true           only what it says here, for those who followed it here
 *     GET    /v1/health                                 → 200 AgentHealth
 *
 * A call that changes something, and every PUT and DELETE of a task, says in two headers on whose behalf it comes (`stamp.ts`): of which
 * lease, and of which try of which step. One that is older than what the host has seen is refused with SUPERSEDED, also after the
 * agent was started anew; one that does not say it is refused with INVALID_ARGUMENT. Questions need not say it; where they do, they are
 * refused alike. A stream of events with a lease ends when a newer lease of its shard appears.
 *
 * Every answer tells what the agent's clock says (`belay-clock`), and a stream of events that was asked for with `?clock=true` does with each sign
 * of life. What changes something says in a third header until when it may be acted on, by that clock; afterwards, or by another life of the
 * agent, it is refused with SUPERSEDED.
 *
 * Every call is declarative: "ensure it is so", "ensure it is not". It may arrive twice, and it may arrive when the opposite
 * never happened. An ensure that finds a foreign object under its name (other `tags.id`) answers NAME_IN_USE and touches nothing.
 *
 * What each takes and answers stands in `protocol/`, one file for each area. Types, the check of every input, which calls are stamped and how long
 * they are waited for all follow from there.
 */

import type { AgentProblem } from './problem.ts';
import * as boot from './protocol/boot.ts';
import type { Signature } from './protocol/call.ts';
import * as domains from './protocol/domains.ts';
import * as facts from './protocol/facts.ts';
import type { DomainState } from './protocol/fields.ts';
import * as files from './protocol/files.ts';
import * as hypervisor from './protocol/hypervisor.ts';
import * as images from './protocol/images.ts';
import * as migration from './protocol/migration.ts';
import * as power from './protocol/power.ts';
import * as serial from './protocol/serial.ts';
import * as storage from './protocol/storage.ts';
import * as localSwitch from './protocol/switch.ts';
import * as witness from './protocol/witness.ts';

export type { Nothing } from './protocol/call.ts';
export type { DiskSpec, DomainSpec, InterfaceSpec } from './protocol/domains.ts';
export type { HostFacts, HostInventory, HostMetrics } from './protocol/facts.ts';
export type { DiskSource, DomainState, DomainStatus, ImageAddress, PoolAddress, Tags } from './protocol/fields.ts';
export type { FileAddress, FileInventory, FileRoot } from './protocol/files.ts';
export type { PoolInventory } from './protocol/images.ts';
export type { CephAccess } from './protocol/storage.ts';
export type { HeartbeatPlace, NetworkSign } from './protocol/witness.ts';

/** One request, one answer; each well under its caller's step deadline. */
export const CALLS = {
  ...facts.calls,
  ...boot.calls,
  ...hypervisor.calls,
  ...localSwitch.calls,
  ...storage.calls,
  ...images.calls,
  ...files.calls,
  ...domains.calls,
  ...power.calls,
  ...migration.calls,
  ...serial.calls,
  ...witness.calls,
};

/** Long work with an id of the caller's: a retried request attaches to the running one. */
export const TASKS = { ...facts.tasks, ...images.tasks, ...files.tasks, ...power.tasks, ...migration.tasks };

export type CallName = keyof typeof CALLS;
export type TaskName = keyof typeof TASKS;
export type Calls = { [Name in CallName]: Signature<(typeof CALLS)[Name]> };
export type Tasks = { [Name in TaskName]: Signature<(typeof TASKS)[Name]> };
export type QuestionName = { [Name in CallName]: Calls[Name]['changes'] extends false ? Name : never }[CallName];

/** Everything else changes something. */
export const isQuestion = (name: CallName): name is QuestionName => !CALLS[name].changes;

export interface Task<Name extends TaskName = TaskName> {
  id: string;
  name: Name;
  state: 'running' | 'succeeded' | 'failed' | 'cancelled';
  /** 0–100. */
  progress: number;
  result?: Tasks[Name]['result'];
  problem?: AgentProblem;
}

/** Between two signs of life on a stream of events. */
export const BEAT_SECONDS = 2;

/** What a guest or libvirt did by itself. `sequence` rises by one within `bootId`. */
export interface HostEvent {
  bootId: string;
  sequence: number;
  at: string;
  type: 'domain.started' | 'domain.stopped' | 'domain.crashed' | 'domain.paused' | 'domain.resumed' | 'hello';
  /** For `hello`, the first line of each stream: every domain and its state now. */
  domains?: { id: string; state: DomainState; reason: string }[];
  /** For `hello`: an empty line comes at least so often, as a sign of life. Absent from agents that send none. */
  beatSeconds?: number;
  domainId?: string;
  reason?: string;
}

export interface AgentHealth {
  agent: string;
  bootId: string;
  hostname: string;
  libvirt: boolean;
  switch: boolean;
}
