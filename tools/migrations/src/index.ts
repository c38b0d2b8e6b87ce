export { readConfig as readJobConfig, readDatabaseConfig, type DatabaseConfig } from './config.js';
export { isJobCommand, JOB_COMMANDS, jobCommand } from './jobCommand.js';
export { withDatabase } from './withDatabase.js';
