"""Copying within the mount."""

import errno
import fcntl
import mmap
import os
import random
import subprocess

from contract.support import CHUNK, PAGE, call, fails, get, libc, open_new, put, test


def copy(source, target, length, source_offset=None, target_offset=None):
    """copy_file_range(2) until nothing more comes."""
    done = 0
    while done < length:
        at = (
            None if source_offset is None else source_offset + done,
            None if target_offset is None else target_offset + done,
        )
        count = os.copy_file_range(source, target, length - done, *at)
        if count == 0:
            break
        done += count
    return done


@test
def copying_ranges(_):
    data = random.Random(9).randbytes(9 * 2**20 + 777)
    put("source", data)
    source = os.open("source", os.O_RDONLY)
    target = open_new("target")
    assert copy(source, target, 2**40) == len(data)
    assert os.fstat(target).st_size == len(data) and get("target") == data
    assert os.lseek(source, 0, os.SEEK_CUR) == len(data) == os.lseek(target, 0, os.SEEK_CUR)
    expected = bytearray(data)
    for start, to, length in ((10, 5000, 100), (PAGE, 3 * PAGE, 2 * PAGE), (777, 2**20 + 1, 3 * CHUNK)):
        assert copy(source, target, length, start, to) == length
        expected[to : to + length] = data[start : start + length]
    assert get("target") == expected
    # Within one file, and up to its end.
    assert copy(target, target, 2**20, 2**20, 0) == 2**20
    expected[0 : 2**20] = expected[2**20 : 2**21]
    assert os.copy_file_range(target, target, 10_000, len(data) - 5000, len(data) + 100) == 5000
    expected += bytes(100) + expected[len(data) - 5000 : len(data)]
    os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
    assert get("target") == expected
    assert copy(source, target, 100, len(data), 0) == 0
    assert copy(source, target, 100, 2**40, 0) == 0


@test
def copying_ranges_goes_with_mappings(_):
    source = open_new("source")
    os.ftruncate(source, 4 * PAGE)
    from_view = mmap.mmap(source, 0)
    from_view[:] = b"s" * (4 * PAGE)
    target = open_new("target")
    os.write(target, b"t" * (4 * PAGE))
    to_view = mmap.mmap(target, 0)
    to_view[0:5] = b"dirty"
    assert copy(source, target, 2 * PAGE, 0, PAGE // 2) == 2 * PAGE
    expected = b"dirty" + b"t" * (PAGE // 2 - 5) + b"s" * (2 * PAGE) + b"t" * (PAGE + PAGE // 2)
    assert to_view[:] == expected and get("target") == expected


@test
def copying_ranges_is_refused(_):
    put("file", b"x" * 1000)
    os.mkdir("directory")
    os.mkfifo("fifo")
    both = os.open("file", os.O_RDWR)
    for target, number in (
        (os.open("file", os.O_RDONLY), errno.EBADF),
        (os.open("file", os.O_WRONLY | os.O_APPEND), errno.EBADF),
        (os.open("directory", os.O_RDONLY), errno.EISDIR),
        (os.open("fifo", os.O_RDWR), errno.EINVAL),
    ):
        with fails(number):
            os.copy_file_range(both, target, 10, 0, 5000)
    with fails(errno.EBADF):
        os.copy_file_range(os.open("file", os.O_WRONLY), both, 10, 0, 5000)
    for start, to in ((0, 99), (99, 0), (0, 0)):
        with fails(errno.EINVAL):
            os.copy_file_range(both, both, 100, start, to)
    with fails(errno.EINVAL):
        call(libc.copy_file_range, both, None, both, None, 10, 1)
    with fails(errno.EFBIG, errno.EINVAL):
        os.copy_file_range(both, both, 10, 0, 2**63 - 5)
    assert get("file") == b"x" * 1000


@test
def copying_keeps_holes(capabilities):
    source = open_new("source")
    os.ftruncate(source, 3 * 2**30)
    os.pwrite(source, b"data" * PAGE, 2**30)
    os.pwrite(source, b"end", 3 * 2**30 - 3)
    subprocess.run(["cp", "--sparse=auto", "source", "copied"], check=True)
    subprocess.run(["cp", "--sparse=always", "copied", "sparse"], check=True)
    os.mkdir("unpacked")
    subprocess.run("tar -cSf - source | tar -xf - -C unpacked", shell=True, check=True)
    names = ["copied", "sparse", "unpacked/source"]
    if capabilities["seekHoles"] and not capabilities["localDisk"]:
        names.append("range")
        assert copy(source, open_new("range"), 2**40, 0, 0) == 3 * 2**30
    for name in names:
        file = os.open(name, os.O_RDONLY)
        assert os.fstat(file).st_size == 3 * 2**30 and os.fstat(file).st_blocks * 512 < 2**22
        assert os.pread(file, 4 * PAGE, 2**30) == b"data" * PAGE and os.pread(file, 10, 2**30 - 5) == bytes(5) + b"datad"
        assert os.pread(file, 10, 3 * 2**30 - 5) == bytes(2) + b"end"
        if capabilities["seekHoles"]:
            assert os.lseek(file, 0, os.SEEK_DATA) == 2**30


@test
def clones_are_refused(_):
    """Sharing space is not offered, by ext4 neither; programs then copy."""
    put("source", b"x" * CHUNK)
    source, target = os.open("source", os.O_RDONLY), open_new("target")
    with fails(errno.EOPNOTSUPP):
        fcntl.ioctl(target, 0x40049409, source)
    subprocess.run(["cp", "--reflink=auto", "source", "copied"], check=True)
    assert get("copied") == b"x" * CHUNK
    assert subprocess.run(["cp", "--reflink=always", "source", "never"], capture_output=True).returncode == 1
