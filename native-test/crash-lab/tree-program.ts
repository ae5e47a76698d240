import { serveRequests } from '../exerciser/child-program.js';
import { isLoss } from '../exerciser/loss.js';
import { TreeExerciser } from '../exerciser/tree-exerciser.js';
import {
  holdOnOperations,
  type LabAnswer,
  type LabRequest,
  type TreeCrashRequest,
  type TreeProgramArguments,
} from './protocol.js';

/** The program of the crash lab that uses names, while the other one has processes killed. */
const { mountPath, ...options } = JSON.parse(process.argv[2] ?? '') as TreeProgramArguments;
process.chdir(mountPath);
const exerciser = new TreeExerciser(options);

serveRequests((request: TreeCrashRequest): LabAnswer => {
  const metLoss = request.type === 'run' && run(request);
  if (request.type !== 'run') carryOut(request);
  return { type: 'done', metLoss };
});

function carryOut(request: LabRequest): void {
  switch (request.type) {
    case 'enter':
      process.chdir(mountPath);
      break;
    case 'check':
      exerciser.compare();
      break;
    case 'leave':
    case 'abandon':
      process.chdir('/');
      break;
    case 'recover':
      exerciser.recover();
      break;
    case 'compare':
      throw new Error('trees are compared where they are mounted');
  }
}

/** Whether the mount was lost under it. */
function run({ operations, mayLoseMount, holdsOn }: Extract<TreeCrashRequest, { type: 'run' }>): boolean {
  try {
    exerciser.run(operations, mayLoseMount);
    if (mayLoseMount && holdsOn) exerciser.run(holdOnOperations, true);
    return false;
  } catch (error) {
    if (!(mayLoseMount && isLoss(error))) throw error;
    return true;
  }
}
