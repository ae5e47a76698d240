"""Space on the disk: allocating, holes, what there is."""

import ctypes
import errno
import mmap
import os
import random
import subprocess
import time

from contract.support import (
    CHUNK,
    COLLAPSE_RANGE,
    INSERT_RANGE,
    KEEP_SIZE,
    PAGE,
    PUNCH_HOLE,
    ZERO_RANGE,
    call,
    fails,
    fallocate,
    libc,
    open_new,
    test,
    test_of_mounts,
)


@test
def allocate(capabilities):
    file = open_new("file")
    if not capabilities["allocate"]:
        for mode in (0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE):
            with fails(errno.EOPNOTSUPP):
                fallocate(file, mode, 0, PAGE)
        return
    os.pwrite(file, b"x" * (8 * PAGE), 0)
    fallocate(file, KEEP_SIZE | PUNCH_HOLE, PAGE + 100, 2 * PAGE)
    expected = b"x" * (PAGE + 100) + bytes(2 * PAGE) + b"x" * (5 * PAGE - 100)
    assert os.pread(file, 9 * PAGE, 0) == expected
    fallocate(file, 0, 0, 10 * PAGE)
    assert os.fstat(file).st_size == 10 * PAGE
    fallocate(file, KEEP_SIZE, 0, 20 * PAGE)
    assert os.fstat(file).st_size == 10 * PAGE
    fallocate(file, ZERO_RANGE, 0, 12 * PAGE)
    assert os.pread(file, 20 * PAGE, 0) == bytes(12 * PAGE)


@test
def holes(capabilities):
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 4 * CHUNK)
    os.pwrite(file, b"data", 2 * CHUNK)
    if capabilities["seekHoles"]:
        assert os.lseek(file, 0, os.SEEK_DATA) == 2 * CHUNK
        assert 2 * CHUNK < os.lseek(file, 2 * CHUNK, os.SEEK_HOLE) <= 3 * CHUNK
    else:
        assert os.lseek(file, 0, os.SEEK_DATA) == 0
        assert os.lseek(file, 0, os.SEEK_HOLE) == 4 * CHUNK
    with fails(errno.ENXIO):
        os.lseek(file, 5 * CHUNK, os.SEEK_DATA)


@test
def file_system_usage(_):
    usage = os.statvfs(".")
    assert usage.f_namemax == 255
    assert 0 < usage.f_bavail <= usage.f_blocks
    assert usage.f_frsize >= PAGE


@test
def allocate_in_detail(capabilities):
    file = open_new("file")
    if not capabilities["allocate"]:
        # Programs that ask the C library make do with writing zeros.
        os.posix_fallocate(file, 0, 2 * PAGE)
        assert os.fstat(file).st_size == 2 * PAGE
        return
    for offset, length in ((0, 0), (-1, 10), (0, -1)):
        with fails(errno.EINVAL):
            fallocate(file, 0, offset, length)
    with fails(errno.EBADF):
        fallocate(os.open("file", os.O_RDONLY), 0, 0, PAGE)
    with fails(errno.EFBIG):
        fallocate(file, 0, 2**62, PAGE)
    with fails(errno.EOPNOTSUPP):
        fallocate(file, PUNCH_HOLE, 0, PAGE)
    os.mkfifo("fifo")
    with fails(errno.ESPIPE):
        fallocate(os.open("fifo", os.O_RDWR), 0, 0, PAGE)
    fallocate(file, 0, 0, 100)
    assert os.fstat(file).st_size == 100 and os.pread(file, 200, 0) == bytes(100)
    os.pwrite(file, b"x" * 100, 0)
    fallocate(file, 0, 10, 10)
    fallocate(file, ZERO_RANGE | KEEP_SIZE, 90, 100)
    assert os.pread(file, 200, 0) == b"x" * 90 + bytes(10)
    fallocate(file, ZERO_RANGE, 95, 10)
    assert os.fstat(file).st_size == 105
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, 1000, 2000)
    assert os.fstat(file).st_size == 105
    # What the cache and mappings hold follows.
    os.pwrite(file, b"y" * (4 * PAGE), 0)
    view = mmap.mmap(file, 0)
    view[PAGE] = 65
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, PAGE, PAGE)
    expected = b"y" * PAGE + bytes(PAGE) + b"y" * (2 * PAGE)
    assert view[:] == expected and os.pread(file, 5 * PAGE, 0) == expected
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(file, 5 * PAGE, 0) == expected
    os.ftruncate(file, 3 * PAGE)
    view[0] = 66
    call(libc.madvise, ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(view))), ctypes.c_size_t(PAGE), 9)
    assert os.pread(file, PAGE, 0) == bytes(PAGE)


@test_of_mounts
def shifting_content_is_refused(_):
    file = open_new("file")
    os.write(file, b"x" * (4 * CHUNK))
    for mode in (COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE | COLLAPSE_RANGE, 64):
        with fails(errno.EOPNOTSUPP):
            fallocate(file, mode, 0, CHUNK)
    assert os.fstat(file).st_size == 4 * CHUNK


@test
def space_comes_back(capabilities):
    """What `du` shows follows what is written, punched and cut off."""

    def uses(chunks):
        """Space may be given back a little later, when it is durable that nobody will want its content."""
        os.fsync(file)
        for _attempt in range(500):
            used = os.fstat(file).st_blocks * 512
            if chunks * CHUNK <= used < (chunks + 1) * CHUNK:
                return True
            time.sleep(0.01)
        return False

    file = open_new("file")
    assert uses(0)
    os.pwrite(file, random.Random(8).randbytes(8 * CHUNK), 0)
    assert uses(8)
    if capabilities["allocate"]:
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, 2 * CHUNK, 4 * CHUNK)
        assert uses(4)
    os.ftruncate(file, CHUNK)
    assert uses(1)
    os.ftruncate(file, 2**30)
    assert uses(1)


@test
def holes_in_detail(capabilities):
    file = open_new("file")
    with fails(errno.ENXIO):
        os.lseek(file, 0, os.SEEK_DATA)
    with fails(errno.ENXIO):
        os.lseek(file, 0, os.SEEK_HOLE)
    os.ftruncate(file, 10 * CHUNK)
    for place in (1, 4, 5):
        os.pwrite(file, b"x" * CHUNK, place * CHUNK)
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        for offset in (10 * CHUNK, 2**40):
            with fails(errno.ENXIO):
                os.lseek(file, offset, whence)
    with fails(errno.EINVAL):
        os.lseek(file, 0, 77)
    if not capabilities["seekHoles"]:
        assert os.lseek(file, 5, os.SEEK_DATA) == 5 and os.lseek(file, 5, os.SEEK_HOLE) == 10 * CHUNK
        return
    with fails(errno.ENXIO):
        os.lseek(file, -1, os.SEEK_DATA)
    with fails(errno.ENXIO):
        os.lseek(file, -5000, os.SEEK_HOLE)

    def data():
        found, at = [], 0
        while True:
            try:
                start = os.lseek(file, at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                return found
            at = os.lseek(file, start, os.SEEK_HOLE)
            assert os.lseek(file, start + 1, os.SEEK_DATA) == start + 1
            assert os.lseek(file, start, os.SEEK_DATA) == start
            found.append((start / CHUNK, at / CHUNK))

    assert data() == [(1, 2), (4, 6)]
    assert os.lseek(file, 6 * CHUNK + 5, os.SEEK_HOLE) == 6 * CHUNK + 5
    with fails(errno.ENXIO):
        os.lseek(file, 6 * CHUNK, os.SEEK_DATA)
    # The offset of the file is where the search ended.
    assert os.lseek(file, 0, os.SEEK_DATA) == CHUNK and os.read(file, 1) == b"x"
    os.ftruncate(file, 5 * CHUNK + 100)
    assert data() == [(1, 2), (4, 5 + 100 / CHUNK)]
    if capabilities["allocate"]:
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, CHUNK + CHUNK // 2, 3 * CHUNK)
        assert data() == [(1, 1.5), (4.5, 5 + 100 / CHUNK)]
    os.ftruncate(file, 20 * CHUNK)
    view = mmap.mmap(file, 0)
    view[10 * CHUNK] = 1
    view.flush()
    assert os.lseek(file, 6 * CHUNK, os.SEEK_DATA) == 10 * CHUNK


@test
def usage_in_detail(_):
    usage = os.statvfs(".")
    assert usage.f_bavail <= usage.f_bfree <= usage.f_blocks
    assert 0 < usage.f_favail <= usage.f_ffree <= usage.f_files
    file = open_new("file")
    assert os.fstatvfs(file).f_blocks == usage.f_blocks
    assert os.fstatvfs(file).f_frsize == usage.f_frsize
    output = subprocess.run(["df", "-P", "."], check=True, capture_output=True, text=True).stdout
    assert len(output.splitlines()) == 2
