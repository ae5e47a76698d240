/** Ways to resume a guest that lies behind a link. */
import { copies, localDisk } from './copies.js';
import { isrSubjects } from './isr.js';
import { nbdkit } from './nbdkit.js';
import { qcow2 } from './qcow2.js';
import { rclone } from './rclone.js';
import { s3backer } from './s3backer.js';
import type { Subject } from './subject.js';

/** Programs that others wrote for it. */
const others: readonly Subject[] = [s3backer, qcow2, nbdkit, rclone];

export const subjects: readonly Subject[] = [localDisk, ...isrSubjects, ...others, ...copies];
