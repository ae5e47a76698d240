import { serveRequests } from '../exerciser/child-program.js';
import { isLoss } from '../exerciser/loss.js';
import { TreeExerciser } from '../exerciser/tree-exerciser.js';
import type { LabAnswer, TreeCrashRequest, TreeProgramArguments } from './protocol.js';

/** The program of the crash lab that uses names, while the other one has processes killed. */
const { mountPath, ...options } = JSON.parse(process.argv[2] ?? '') as TreeProgramArguments;
process.chdir(mountPath);
const exerciser = new TreeExerciser(options);

serveRequests((request: TreeCrashRequest): LabAnswer => {
  carryOut(request);
  return { type: 'done' };
});

function carryOut(request: TreeCrashRequest): void {
  switch (request.type) {
    case 'enter':
      process.chdir(mountPath);
      break;
    case 'run':
      run(request);
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

function run({ operations, losesMount, holdsOn }: Extract<TreeCrashRequest, { type: 'run' }>): void {
  try {
    exerciser.run(operations, losesMount);
    while (losesMount && holdsOn) exerciser.run(1, true);
  } catch (error) {
    if (!(losesMount && isLoss(error))) throw error;
  }
}
