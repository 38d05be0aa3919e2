/** What operations can be searched by in Temporal's web page and `temporal workflow list`. */
import { defineSearchAttributeKey } from '@temporalio/common';

/** Type of the operation, such as `instance.create`; the operation's id is the workflow's id. */
export const belayOperation = defineSearchAttributeKey('BelayOperation', 'KEYWORD');
/** Kind and id of the resource the operation is about. */
export const belayResource = defineSearchAttributeKey('BelayResource', 'KEYWORD');
/** Kind and name of that resource as they were at the start, such as `instance web-1`: what a person knows it by. */
export const belayTarget = defineSearchAttributeKey('BelayTarget', 'KEYWORD');
export const belayProject = defineSearchAttributeKey('BelayProject', 'KEYWORD');
/** Ids of the hosts the operation works on; more than one while an instance moves. */
export const belayHost = defineSearchAttributeKey('BelayHost', 'KEYWORD_LIST');

export const searchAttributes = [belayOperation, belayTarget, belayResource, belayProject, belayHost] as const;
