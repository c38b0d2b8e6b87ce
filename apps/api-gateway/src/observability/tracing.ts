import {
  defaultTextMapGetter,
  defaultTextMapSetter,
  ROOT_CONTEXT,
  type Span as SdkSpan,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import {
  type ExportResult,
  ExportResultCode,
  W3CTraceContextPropagator,
} from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import type { Tracer } from './tracer.js';

export interface TracerOptions {
  /** An OTLP collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); spans go to `/v1/traces` below it, as JSON. */
  endpoint: string;
  headers?: Readonly<Record<string, string>>;
  /** Told once why spans cannot be sent, without the endpoint; and null when they can again. */
  onChange: (problem: string | null) => void;
  /** How long one batch may be tried for, in milliseconds; by default `OTEL_EXPORTER_OTLP_TIMEOUT`, or 5 seconds. */
  timeoutMs?: number;
}

const TIMEOUT_MS = 5_000;
const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT };

/**
 * Traces by OpenTelemetry's SDK, exported as OTLP over HTTP (JSON). Sampler, batches, limits and resource follow the
 * standard `OTEL_*` variables; by default who asked decides whether a trace is kept (its sampled flag), and one that
 * begins here is. While the collector is away spans are dropped: a bounded number waits.
 */
export function createTracer({
  endpoint,
  headers = {},
  onChange,
  timeoutMs,
}: TracerOptions): Tracer {
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/+$/, '')}/v1/traces`,
    headers: { ...headers },
    ...timeoutOf(timeoutMs),
  });
  const processor = new BatchSpanProcessor(toldOf(exporter, onChange));
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'session-gateway' }).merge(
      detectResources({ detectors: [envDetector] }),
    ),
    spanProcessors: [processor],
  });
  const tracer = provider.getTracer('session-gateway');
  const propagator = new W3CTraceContextPropagator();

  return {
    begin(name, kind, traceparent) {
      const parent = propagator.extract(
        ROOT_CONTEXT,
        traceparent === null ? {} : { traceparent },
        defaultTextMapGetter,
      );
      const span = tracer.startSpan(name, { kind: KINDS[kind] }, parent);
      const { traceId } = span.spanContext();
      return {
        traceId,
        traceparent: traceparentOf(span),
        isContinued: trace.getSpanContext(parent) !== undefined,
        end(attributes, failed) {
          span.setAttributes(attributes);
          if (failed) span.setStatus({ code: SpanStatusCode.ERROR });
          span.end();
        },
      };
    },
    // Both reject when spans cannot be sent, which the exporter has told already.
    flush: () => provider.forceFlush().catch(() => undefined),
    stop: () => provider.shutdown().catch(() => undefined),
  };

  function traceparentOf(span: SdkSpan): string {
    const carrier: Record<string, string> = {};
    propagator.inject(trace.setSpan(ROOT_CONTEXT, span), carrier, defaultTextMapSetter);
    return carrier['traceparent'] ?? '';
  }
}

/** Nothing where the variable says it: what is given in code would win. */
function timeoutOf(timeoutMs: number | undefined): { timeoutMillis?: number } {
  if (timeoutMs === undefined && process.env['OTEL_EXPORTER_OTLP_TIMEOUT']) return {};
  return { timeoutMillis: timeoutMs ?? TIMEOUT_MS };
}

/** The exporter, which tells of its first failure and of the first success after one. */
function toldOf(exporter: SpanExporter, onChange: TracerOptions['onChange']): SpanExporter {
  let failing = false;
  const tell = ({ code, error }: ExportResult): void => {
    const problem = code === ExportResultCode.SUCCESS ? null : problemOf(error);
    if (failing === (problem !== null)) return;
    failing = problem !== null;
    onChange(problem);
  };
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        tell(result);
        done(result);
      });
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  };
}

/** By kind: the messages of errors may quote the address. */
function problemOf(error: Error | undefined): string {
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code === 'number') return `the collector answers ${code}`;
  // The SDK tries a 429, 502, 503 or 504 again, and keeps the status to itself when time is up.
  if (code === undefined && error?.name === 'OTLPExporterError')
    return 'the collector asks to be tried again later';
  return typeof code === 'string' ? code : (error?.name ?? 'unknown');
}
