import t from 'tap';
import * as protocol from '../../../src/fuse/kernel/protocol.js';

t.test('structures are as long as those of the kernel, and their members lie where they do', async (t) => {
  const lengths = {
    fuse_in_header: 40,
    fuse_out_header: 16,
    fuse_attr: 88,
    fuse_entry_out: 128,
    fuse_attr_out: 104,
    fuse_forget_in: 8,
    fuse_batch_forget_in: 8,
    fuse_forget_one: 16,
    fuse_setattr_in: 88,
    fuse_mknod_in: 16,
    fuse_mkdir_in: 8,
    fuse_rename_in: 8,
    fuse_rename2_in: 16,
    fuse_link_in: 8,
    fuse_open_in: 8,
    fuse_create_in: 16,
    fuse_open_out: 16,
    fuse_release_in: 24,
    fuse_read_in: 40,
    fuse_write_in: 40,
    fuse_write_out: 8,
    fuse_fsync_in: 16,
    fuse_fallocate_in: 32,
    fuse_lseek_in: 24,
    fuse_lseek_out: 8,
    fuse_setxattr_in: 8,
    fuse_getxattr_in: 8,
    fuse_getxattr_out: 8,
    fuse_statfs_out: 80,
    fuse_dirent: 24,
    fuse_direntplus: 152,
    fuse_interrupt_in: 8,
    fuse_init_in: 16,
    fuse_init_out: 64,
  } as const;
  for (const [name, bytes] of Object.entries(lengths)) {
    t.equal(protocol[name as keyof typeof lengths].bytes, bytes, name);
  }
  t.equal(protocol.fuse_in_header.at.pid, 32);
  t.equal(protocol.fuse_attr.at.mode, 60);
  t.equal(protocol.fuse_setattr_in.at.mode, 68);
  t.equal(protocol.fuse_read_in.at.flags, 32);
  t.equal(protocol.fuse_init_out.at.max_pages, 28);
  t.equal(protocol.fuse_direntplus.at.dirent, 128);
});
