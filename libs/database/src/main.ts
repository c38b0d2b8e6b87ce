import process from 'node:process';
import { databaseCommand } from './databaseCommand.js';

process.exitCode = await databaseCommand(process.argv.slice(2), process.env);
