/** All workflows: one per action of a kind, named `<action><Kind>`, and what schedules run. Each is a file of an area, and there is no other list of them. */
export * from '../generated/workflows.ts';
