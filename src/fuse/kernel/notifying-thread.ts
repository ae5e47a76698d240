import { workerData } from 'node:worker_threads';
import { leaveSharedDescriptors, writeDescriptor } from '../../system/index.js';
import { RangeQueue, type NotifyingThreadData } from './notifications.js';
import { fuse_notify_inval_inode_out, fuse_out_header, notifyCode } from './protocol.js';
import { littleEndian, writeUint64 } from './wire.js';

/* The thread of `Notifications`. */

const { deviceFd, queue } = workerData as NotifyingThreadData;
const ranges = new RangeQueue(queue);
const bodyAt = fuse_out_header.bytes;
const messageBytes = bodyAt + fuse_notify_inval_inode_out.bytes;
const message = Buffer.alloc(messageBytes);
const view = new DataView(message.buffer, message.byteOffset, messageBytes);
view.setUint32(fuse_out_header.at.len, messageBytes, littleEndian);
view.setInt32(fuse_out_header.at.error, notifyCode.INVAL_INODE, littleEndian);

// Where a page is dirty, the kernel has it written before it forgets it, and nothing ends that wait but an answer: if the process
// is killed meanwhile, the answer of the next one. That is only started when this one is known to be dead.
leaveSharedDescriptors();

for (let range = ranges.take(); range !== undefined; range = ranges.take()) {
  writeUint64(view, bodyAt + fuse_notify_inval_inode_out.at.ino, range.inode);
  writeUint64(view, bodyAt + fuse_notify_inval_inode_out.at.off, range.offsetBytes);
  writeUint64(view, bodyAt + fuse_notify_inval_inode_out.at.len, range.lengthBytes);
  // It fails where the kernel has forgotten the inode, or the mount is gone: then there is nothing to forget.
  writeDescriptor(deviceFd, message, messageBytes);
}
