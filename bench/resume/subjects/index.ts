/** Ways to resume a guest that lies behind a link. */
import { copies, localDisk } from './copies.js';
import { isrSubjects } from './isr.js';
import { others } from './others.js';
import type { Subject } from './subject.js';

export const subjects: readonly Subject[] = [localDisk, ...isrSubjects, ...others, ...copies];
