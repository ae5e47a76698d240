"""Files whose name is gone while they are open."""

import errno
import mmap
import os
import stat
import time

from contract.support import fails, get, put, test


@test
def unlinked_but_open(_):
    os.mkdir("directory")
    file = os.open("directory/file", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(file, b"x" * 10_000)
    os.unlink("directory/file")
    assert os.listdir("directory") == []
    with fails(errno.ENOENT):
        os.stat("directory/file")
    assert os.fstat(file).st_nlink == 0 and os.fstat(file).st_size == 10_000
    assert os.pread(file, 20_000, 9_990) == b"x" * 10
    os.pwrite(file, b"more", 20_000)
    os.ftruncate(file, 20_002)
    os.fchmod(file, 0o640)
    os.fsync(file)
    assert os.fstat(file).st_size == 20_002 and stat.S_IMODE(os.fstat(file).st_mode) == 0o640
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(file, 10, 19_999) == b"\0mo"
    view = mmap.mmap(file, 0)
    view[0] = 65
    view.close()
    assert os.pread(file, 2, 0) == b"Ax"
    put("directory/file", b"new")
    assert get("directory/file") == b"new" and os.pread(file, 2, 0) == b"Ax"
    os.unlink("directory/file")
    os.rename("directory", "moved")
    assert os.fstat(file).st_size == 20_002
    # The directory may have to stay, but the file may not be lost.
    try:
        os.rmdir("moved")
    except OSError as error:
        assert error.errno == errno.ENOTEMPTY
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(file, 2, 0) == b"Ax"
    os.close(file)
    time.sleep(0.05)  # close(2) does not wait for the release
    if os.path.exists("moved"):
        os.rmdir("moved")
    assert os.listdir(".") == []


@test
def replaced_while_open(_):
    put("file", b"old")
    reader = os.open("file", os.O_RDONLY)
    put("new", b"new content")
    os.rename("new", "file")
    assert os.pread(reader, 100, 0) == b"old"
    assert os.fstat(reader).st_nlink == 0 and os.fstat(reader).st_size == 3
    assert get("file") == b"new content"
    assert os.listdir(".") == ["file"]
