import process from 'node:process';

// Each SIGUSR2 is an error that nobody catches, and a rejection that nobody handles.
process.on('SIGUSR2', () => {
  setImmediate(() => {
    throw new Error('thrown at nobody');
  });
  void Promise.reject(new Error('rejected at nobody'));
});
await import('../../../../apps/api-gateway/src/main.js');
