import type { Command } from 'commander';
import { verifyVersion } from '../../repo/index.js';
import { parseVersion, parseVmName } from '../arguments.js';
import { examples, type Bind } from '../command.js';
import type { CommandContext } from '../context.js';
import { exitCodes, type ExitCode } from '../exit-codes.js';
import { withProgress } from '../progress.js';

interface Options {
  readonly version?: number;
}
