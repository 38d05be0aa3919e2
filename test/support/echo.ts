/** A workflow that asks one activity: a word there and back through all that lies between a client and a worker. */
import { proxyActivities } from '@temporalio/workflow';

export interface EchoActivities {
  say(word: string): Promise<string>;
}

export async function echo(word: string): Promise<string> {
  return proxyActivities<EchoActivities>({ startToCloseTimeout: '10 s' }).say(word);
}
