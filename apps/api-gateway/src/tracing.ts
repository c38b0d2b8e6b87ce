import { randomBytes } from 'node:crypto';

/** A span under way: its place in the trace, and how to end it. */
export interface Span {
  readonly traceId: string;
  /** For whom is asked next (W3C Trace Context §3.2). */
  readonly traceparent: string;
  end(attributes: Readonly<Record<string, string | number>>, failed: boolean): void;
}

export interface Tracer {
  /** A span of this process; with a `traceparent` that is well-formed it continues that trace, else it begins one. */
  begin(name: string, kind: 'server' | 'client', traceparent: string | null): Span;
  /** Sends what is left. */
  stop(): Promise<void>;
}

export interface TracerOptions {
  /** An OTLP collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); spans go to `/v1/traces` below it, as JSON. */
  endpoint: string;
  serviceName: string;
  headers?: Readonly<Record<string, string>>;
  /** Told once why spans cannot be sent, without the endpoint; and null when they can again. */
  onChange: (problem: string | null) => void;
  flushMs?: number;
}

const KINDS = { server: 2, client: 3 } as const;
const MAX_WAITING = 2_048;
const SEND_TIMEOUT_MS = 5_000;
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** Whether a trace can be gone on with (W3C Trace Context §3.2.2). */
export const isTraceparent = (text: string | null): boolean => TRACEPARENT.test(text ?? '');

/**
 * Traces as OpenTelemetry's collectors take them (OTLP/HTTP, JSON). Who asked decides whether a trace is kept (its
 * sampled flag); one that begins here is. While the collector is away spans are dropped: at most so many wait.
 */
export function createTracer({ endpoint, serviceName, headers = {}, onChange, flushMs = 5_000 }: TracerOptions): Tracer {
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`;
  let waiting: object[] = [];
  let failing = false;
  const tell = (problem: string | null): void => {
    if (failing === (problem !== null)) return;
    failing = problem !== null;
    onChange(problem);
  };
  const flush = async (): Promise<void> => {
    if (waiting.length === 0) return;
    const spans = waiting;
    waiting = [];
    const body = { resourceSpans: [{ resource: { attributes: attributesOf({ 'service.name': serviceName }) }, scopeSpans: [{ scope: { name: 'session-gateway' }, spans }] }] };
    try {
      const answer = await fetch(url, {
        method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal: AbortSignal.timeout(SEND_TIMEOUT_MS),
        // The headers are secret, and for this collector alone.
        redirect: 'manual',
      });
      await answer.arrayBuffer();
      tell(answer.ok ? null : `the collector answers ${answer.status}`);
    } catch (error) {
      tell(problemOf(error));
    }
  };
  const timer = setInterval(() => void flush(), flushMs).unref();
  return {
    begin(name, kind, traceparent) {
      const [, given, parentSpanId, flags = '01'] = TRACEPARENT.exec(traceparent ?? '') ?? [];
      const [traceId, spanId, start] = [given ?? randomBytes(16).toString('hex'), randomBytes(8).toString('hex'), Date.now()];
      return {
        traceId,
        traceparent: `00-${traceId}-${spanId}-${flags}`,
        end(attributes, failed) {
          if ((parseInt(flags, 16) & 1) === 0 || waiting.length >= MAX_WAITING) return;
          waiting.push({
            traceId, spanId, name, kind: KINDS[kind], ...(parentSpanId === undefined ? {} : { parentSpanId }),
            startTimeUnixNano: nanoseconds(start), endTimeUnixNano: nanoseconds(Date.now()), attributes: attributesOf(attributes), status: { code: failed ? 2 : 0 },
          });
        },
      };
    },
    async stop() {
      clearInterval(timer);
      await flush();
    },
  };
}

/** By kind: the messages of `fetch` may quote the address. */
function problemOf(error: unknown): string {
  const { name, cause } = error as Error;
  const { code } = (cause ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : name;
}

const nanoseconds = (ms: number): string => `${ms}000000`;
const attributesOf = (attributes: Readonly<Record<string, string | number>>): object[] =>
  Object.entries(attributes).map(([key, value]) => ({ key, value: typeof value === 'number' ? { intValue: String(value) } : { stringValue: value } }));
