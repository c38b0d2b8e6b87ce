import { AsyncLocalStorage } from 'node:async_hooks';

/** The request that the running code works for. */
export interface RequestContext {
  readonly request: string;
  /** The id of its trace, where traces are kept. */
  readonly trace?: string;
  /** For whom is asked on its behalf: its span, which theirs hang on. */
  readonly traceparent?: string;
}

const contexts = new AsyncLocalStorage<RequestContext>();

export const currentRequest = (): RequestContext | undefined => contexts.getStore();
export const inRequest = <Result>(context: RequestContext, work: () => Result): Result =>
  contexts.run(context, work);
