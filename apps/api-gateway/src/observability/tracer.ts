/** A span under way: its place in the trace, and how to end it. */
export interface Span {
  readonly traceId: string;
  /** For the one who is asked next (W3C Trace Context §3.2). */
  readonly traceparent: string;
  /** Whether the trace is the caller's; otherwise it begins with this span. */
  readonly isContinued: boolean;
  end(attributes: Readonly<Record<string, string | number>>, failed: boolean): void;
}

export interface Tracer {
  /** A span of this process; with a `traceparent` that is well-formed it continues that trace, else it begins one. */
  begin(name: string, kind: 'server' | 'client', traceparent: string | null): Span;
  /** Sends what is waiting. */
  flush(): Promise<void>;
  /** Sends what is left; begins no spans any more. */
  stop(): Promise<void>;
}
