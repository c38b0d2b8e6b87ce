import { AsyncLocalStorage } from 'node:async_hooks';

/** The request that the running code works for: its id, and the ids of its trace and span where traces are kept. */
export interface RequestContext {
  readonly request: string;
  readonly trace?: string;
}

const contexts = new AsyncLocalStorage<RequestContext>();

export const currentRequest = (): RequestContext | undefined => contexts.getStore();
export const inRequest = <Result>(context: RequestContext, work: () => Result): Result => contexts.run(context, work);
