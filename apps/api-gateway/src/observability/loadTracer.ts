import type { Log } from './logging.js';
import type { Tracer } from './tracer.js';

/**
 * The tracer of the settings, or null where traces go nowhere: OpenTelemetry's SDK is loaded only when it is needed.
 */
export async function loadTracer(
  {
    otlpEndpoint,
    otlpHeaders,
  }: { otlpEndpoint: string | undefined; otlpHeaders: Readonly<Record<string, string>> },
  log: Log,
): Promise<Tracer | null> {
  if (otlpEndpoint === undefined) return null;
  const { createTracer } = await import('./tracing.js');
  return createTracer({
    endpoint: otlpEndpoint,
    headers: otlpHeaders,
    onChange: (problem) =>
      problem === null
        ? log.info({ event: 'traces' }, 'traces are sent again')
        : log.warn(
            { event: 'traces', error: problem },
            'traces cannot be sent (OTEL_EXPORTER_OTLP_ENDPOINT); they are dropped until they can',
          ),
  });
}
