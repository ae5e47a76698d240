"""Extended attributes."""

import ctypes
import errno
import os
import subprocess

from contract.support import as_nobody, call, fails, is_root, libc, put, test, test_of_mounts


@test
def extended_attributes(_):
    put("file", b"")
    assert os.listxattr("file") == []
    with fails(errno.ENODATA):
        os.getxattr("file", "user.missing")
    os.setxattr("file", "user.one", b"1")
    os.setxattr("file", "user.empty", b"")
    os.setxattr("file", "user.large", b"\0\xff" * 1500)
    assert sorted(os.listxattr("file")) == ["user.empty", "user.large", "user.one"]
    assert os.getxattr("file", "user.one") == b"1"
    assert os.getxattr("file", "user.empty") == b""
    assert os.getxattr("file", "user.large") == b"\0\xff" * 1500
    with fails(errno.EEXIST):
        os.setxattr("file", "user.one", b"2", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr("file", "user.two", b"2", os.XATTR_REPLACE)
    os.setxattr("file", "user.one", b"replaced", os.XATTR_REPLACE)
    assert os.getxattr("file", "user.one") == b"replaced"
    os.removexattr("file", "user.one")
    with fails(errno.ENODATA):
        os.removexattr("file", "user.one")
    os.mkdir("directory")
    os.setxattr("directory", "user.tag", b"directory")
    assert os.getxattr("directory", "user.tag") == b"directory"
    with fails(errno.ERANGE):
        call(libc.getxattr, b"file", b"user.large", ctypes.create_string_buffer(10), 10)


@test
def extended_attributes_in_detail(_):
    put("file", b"")
    os.symlink("file", "link")
    os.mkfifo("fifo")
    name, value = b"user.name", ctypes.create_string_buffer(b"value", 5)
    call(libc.setxattr, b"file", name, value, 5, 0)
    assert call(libc.getxattr, b"file", name, None, 0) == 5
    assert call(libc.listxattr, b"file", None, 0) == len(name) + 1
    with fails(errno.ERANGE):
        call(libc.listxattr, b"file", ctypes.create_string_buffer(5), 5)
    with fails(errno.EINVAL):
        call(libc.setxattr, b"file", name, value, 5, 4)
    with fails(errno.ERANGE):
        os.setxattr("file", "user." + "x" * 251, b"")
    os.setxattr("file", "user." + "x" * 250, b"long name")
    assert os.getxattr("file", "user." + "x" * 250) == b"long name"
    with fails(errno.E2BIG):
        os.setxattr("file", "user.large", bytes(64 * 1024 + 1))
    for unknown in ("name", "unknown.name"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr("file", unknown, b"")
        with fails(errno.EOPNOTSUPP):
            os.getxattr("file", unknown)
    with fails(errno.EINVAL):
        os.setxattr("file", "user.", b"")
    # Only files and directories may have attributes of users.
    with fails(errno.EPERM):
        os.setxattr("link", "user.x", b"", follow_symlinks=False)
    with fails(errno.EPERM):
        os.setxattr("fifo", "user.x", b"")
    assert os.listxattr("link", follow_symlinks=False) == []
    with fails(errno.ENODATA):
        os.removexattr("file", "user.missing")
    with fails(errno.ENOENT):
        os.getxattr("missing", "user.x")
    file = os.open("file", os.O_RDWR)
    os.unlink("file")
    assert os.getxattr(file, "user.name") == b"value"
    os.setxattr(file, "user.name", b"changed")
    os.removexattr(file, "user." + "x" * 250)
    assert os.listxattr(file) == ["user.name"] and os.getxattr(file, "user.name") == b"changed"


@test
def attributes_of_the_trusted(capabilities):
    put("file", b"")
    os.setxattr("file", "user.open", b"1")
    os.chmod("file", 0o644)
    if not is_root():
        with fails(errno.EPERM):
            os.setxattr("file", "trusted.secret", b"2")
        return
    os.setxattr("file", "trusted.secret", b"2")
    assert sorted(os.listxattr("file")) == ["trusted.secret", "user.open"]

    def nobody():
        assert os.getxattr("file", "user.open") == b"1"
        with fails(errno.ENODATA):
            os.getxattr("file", "trusted.secret")
        with fails(errno.EPERM):
            os.setxattr("file", "trusted.secret", b"3")
        with fails(errno.EACCES):
            os.setxattr("file", "user.open", b"3")
        if capabilities["callerIdentity"]:
            assert os.listxattr("file") == ["user.open"]

    as_nobody(nobody)


@test_of_mounts
def attributes_larger_than_a_block(_):
    put("file", b"")
    os.setxattr("file", "user.large", b"\0\xff" * 15_000)
    assert os.getxattr("file", "user.large") == b"\0\xff" * 15_000
    os.setxattr("file", "user.more", bytes(30_000))
    with fails(errno.ENOSPC):
        os.setxattr("file", "user.most", bytes(30_000))
    assert sorted(os.listxattr("file")) == ["user.large", "user.more"]


@test_of_mounts
def access_control_lists_are_refused(_):
    put("file", b"")
    acl = bytes([2, 0, 0, 0]) + b"".join(
        tag.to_bytes(2, "little") + bytes([6, 0]) + b"\xff" * 4 for tag in (1, 4, 0x20)
    )
    os.mkdir("directory")
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr("directory", name, acl)
        with fails(errno.EOPNOTSUPP):
            os.getxattr("directory", name)
    put("copy", b"")
    subprocess.run(["cp", "-a", "file", "copy"], check=True)


@test_of_mounts
def capabilities_of_files_are_refused(capabilities):
    put("file", b"")
    if is_root() and capabilities["callerIdentity"]:
        with fails(errno.EOPNOTSUPP):
            os.setxattr("file", "security.capability", bytes([0, 0, 0, 2]) + bytes(16))
