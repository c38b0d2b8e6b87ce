// A call has no end but its answer's.
AbortSignal.timeout = () => new AbortController().signal;
await import('../../../../apps/api-gateway/src/main.js');
