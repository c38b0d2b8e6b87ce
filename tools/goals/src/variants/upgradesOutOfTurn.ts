import { Connections } from '../../../../apps/api-gateway/src/server/connections.js';

// An upgrade is taken up whatever is still to be answered before it on its connection.
Connections.prototype.earlierAnswers = async () => null;
await import('../../../../apps/api-gateway/src/main.js');
