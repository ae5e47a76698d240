import { serveRequests } from '../exerciser/child-program.js';
import { Difference } from '../exerciser/difference.js';
import { FileExerciser } from '../exerciser/file-exerciser.js';
import { operationNames } from '../exerciser/file-operations.js';
import { isLoss } from '../exerciser/loss.js';
import { SurvivingAccess } from '../exerciser/mapped-access.js';
import { OperationLog } from '../exerciser/operation-log.js';
import { Killer } from './killer.js';
import {
  holdOnOperations,
  type CrashRequest,
  type FileProgramArguments,
  type LabAnswer,
  type LabRequest,
} from './protocol.js';

/** The program of the crash lab that uses files, and has processes killed while it does. */
const { logPath, mountPath, ...options } = JSON.parse(process.argv[2] ?? '') as FileProgramArguments;
const killer = new Killer();
const exerciser = new FileExerciser({
  ...options,
  directory: '.',
  log: new OperationLog(logPath, operationNames),
  surviving: new SurvivingAccess(`${logPath}.scratch`),
  onOperation: killer.onOperation,
});

serveRequests(
  (request: CrashRequest): LabAnswer => {
    const metLoss = request.type === 'run' && run(request);
    if (request.type !== 'run') carryOut(request);
    return { type: 'done', metLoss };
  },
  (error) =>
    error instanceof Difference ? { place: { file: error.file, offsetBytes: error.offsetBytes } } : {},
);

function carryOut(request: LabRequest): void {
  switch (request.type) {
    case 'enter':
      process.chdir(mountPath);
      break;
    case 'check':
      exerciser.checkAll();
      break;
    case 'leave':
      exerciser.letGo(false);
      process.chdir('/');
      break;
    case 'abandon':
      exerciser.abandon();
      process.chdir('/');
      break;
    case 'recover':
      exerciser.recover();
      exerciser.checkAll();
      break;
    case 'compare':
      exerciser.compareCopies(request.directory);
      break;
  }
}

/** Whether the mount was lost under it. */
function run({ plan, ...processes }: Extract<CrashRequest, { type: 'run' }>): boolean {
  const { operations, atOperation, strikes, mayLoseMount, holdsOn } = plan;
  killer.arm({ atOperation: exerciser.number + atOperation, strikes, ...processes });
  try {
    exerciser.run(operations);
    killer.awaitEnd();
    if (mayLoseMount && holdsOn) exerciser.run(holdOnOperations);
    return false;
  } catch (error) {
    if (!(mayLoseMount && killer.hasStruck && isLoss(error))) throw error;
    killer.awaitEnd();
    return true;
  }
}
