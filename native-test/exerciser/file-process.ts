import { serveRequests } from './child-program.js';
import { Difference } from './difference.js';
import { FileExerciser } from './file-exerciser.js';
import { operationNames } from './file-operations.js';
import { OperationLog } from './operation-log.js';
import type { ExerciserAnswer, ExerciserArguments, ExerciserRequest } from './protocol.js';

/** The program that uses files of the mount. */
const { logPath, ...options } = JSON.parse(process.argv[2] ?? '') as ExerciserArguments;
const exerciser = new FileExerciser({ ...options, log: new OperationLog(logPath, operationNames) });

serveRequests(
  (request: ExerciserRequest): ExerciserAnswer => {
    carryOut(request);
    return { type: 'done' };
  },
  (error) =>
    error instanceof Difference ? { place: { file: error.file, offsetBytes: error.offsetBytes } } : {},
);

function carryOut(request: ExerciserRequest): void {
  switch (request.type) {
    case 'run':
      exerciser.run(request.operations);
      break;
    case 'check':
      exerciser.checkAll();
      break;
    case 'letGo':
      exerciser.letGo(request.keepReading);
      break;
    case 'look':
      exerciser.look(request.operations);
      break;
    case 'compare':
      exerciser.compareCopies(request.directory);
      break;
  }
}
