import { serveRequests } from './child-program.js';
import { TreeExerciser, type TreeExerciserOptions } from './tree-exerciser.js';
import { settleTimes, walkTree, type Snapshot } from './tree-walk.js';

export type TreeRequest =
  | { readonly type: 'run'; readonly operations: number }
  /** Compares the process's own tree with the local one. */
  | { readonly type: 'compare' }
  /** Gives everything below a root times that copies keep. */
  | { readonly type: 'settle'; readonly root: string }
  | { readonly type: 'walk'; readonly root: string; readonly countsDirectoryLinks: boolean };

export type TreeAnswer = { readonly type: 'done' } | { readonly type: 'walked'; readonly snapshot: Snapshot };

/** A program that uses a tree of the mount. */
const options = JSON.parse(process.argv[2] ?? '') as TreeExerciserOptions;
const exerciser = new TreeExerciser(options);

serveRequests((request: TreeRequest): TreeAnswer => {
  switch (request.type) {
    case 'run':
      exerciser.run(request.operations);
      return { type: 'done' };
    case 'compare':
      exerciser.compare();
      return { type: 'done' };
    case 'settle':
      settleTimes(request.root, options.timeResolutionNs);
      return { type: 'done' };
    case 'walk':
      return { type: 'walked', snapshot: walkTree(request.root, request) };
  }
});
