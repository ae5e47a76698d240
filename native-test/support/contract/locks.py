"""Locks."""

import errno
import fcntl
import os
import struct
import time

from contract.support import fails, in_child, open_new, test


@test
def locks(_):
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def other():
        second = os.open("file", os.O_RDWR)
        with fails(errno.EAGAIN, errno.EACCES):
            fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with fails(errno.EAGAIN):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(other)
    os.close(file)

    def later():
        second = os.open("file", os.O_RDWR)
        fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(later)


F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38


def record(kind, start, length):
    """`struct flock`."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


@test
def record_locks(_):
    file = open_new("file")
    fcntl.lockf(file, fcntl.LOCK_EX, 100, 0)
    fcntl.lockf(file, fcntl.LOCK_SH, 100, 200)

    def other():
        second = os.open("file", os.O_RDWR)
        fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 100)
        fcntl.lockf(second, fcntl.LOCK_SH | fcntl.LOCK_NB, 100, 200)
        for kind, start in ((fcntl.LOCK_SH, 99), (fcntl.LOCK_EX, 299)):
            with fails(errno.EAGAIN, errno.EACCES):
                fcntl.lockf(second, kind | fcntl.LOCK_NB, 1, start)
        found = struct.unpack("hhqqi4x", fcntl.fcntl(second, fcntl.F_GETLK, record(fcntl.F_WRLCK, 0, 1000)))
        assert found[0] == fcntl.F_WRLCK and found[2:4] == (0, 100) and found[4] == os.getppid()

    in_child(other)
    with fails(errno.EBADF):
        fcntl.lockf(os.open("file", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


@test
def locks_are_waited_for(_):
    file = open_new("file")
    done_read, done_write = os.pipe()
    for lock in (fcntl.lockf, fcntl.flock):
        lock(file, fcntl.LOCK_EX)
        pid = os.fork()
        if pid == 0:
            second = os.open("file", os.O_RDWR)
            lock(second, fcntl.LOCK_EX)
            os.write(done_write, b"x")
            # Ends with the lock, which ends with it.
            os._exit(0)
        os.set_blocking(done_read, False)
        time.sleep(0.1)
        with fails(errno.EAGAIN):
            os.read(done_read, 1)
        lock(file, fcntl.LOCK_UN)
        os.waitpid(pid, 0)
        assert os.read(done_read, 1) == b"x"
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock(file, fcntl.LOCK_UN)


@test
def deadlocks_are_found(_):
    file = open_new("file")
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 1)
        os.write(ready_write, b"x")
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
        os._exit(0)
    os.read(ready_read, 1)
    time.sleep(0.1)
    with fails(errno.EDEADLK):
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 1)
    fcntl.lockf(file, fcntl.LOCK_UN, 1, 0)
    assert os.waitpid(pid, 0)[1] == 0


@test
def locks_of_open_files(_):
    first = open_new("file")
    second = os.open("file", os.O_RDWR)
    fcntl.fcntl(first, F_OFD_SETLK, record(fcntl.F_WRLCK, 0, 10))
    with fails(errno.EAGAIN):
        fcntl.fcntl(second, F_OFD_SETLK, record(fcntl.F_RDLCK, 5, 10))
    found = struct.unpack("hhqqi4x", fcntl.fcntl(second, F_OFD_GETLK, record(fcntl.F_WRLCK, 0, 0)))
    assert found[0] == fcntl.F_WRLCK and found[2:4] == (0, 10)
    fcntl.fcntl(second, F_OFD_SETLK, record(fcntl.F_WRLCK, 10, 10))
    copy = os.dup(first)
    os.close(first)
    with fails(errno.EAGAIN):
        fcntl.fcntl(second, F_OFD_SETLK, record(fcntl.F_WRLCK, 0, 1))
    os.close(copy)
    fcntl.fcntl(second, F_OFD_SETLK, record(fcntl.F_WRLCK, 0, 1))


@test
def whole_file_locks(_):
    first, second, third = open_new("file"), os.open("file", os.O_RDONLY), os.open("file", os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_SH)
    fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with fails(errno.EAGAIN):
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with fails(errno.EAGAIN):
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(second)
    fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The two kinds know nothing of each other, and a lock goes with the file whatever becomes of its name.
    fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename("file", "renamed")
    with fails(errno.EAGAIN):
        fcntl.flock(os.open("renamed", os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
