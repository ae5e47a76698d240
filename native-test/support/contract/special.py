"""Special files, and programs that use many calls."""

import errno
import fcntl
import os
import select
import socket
import sqlite3
import stat
import tempfile
import termios

from contract.support import fails, get, put, test, test_of_mounts


@test
def fifos(_):
    os.mkfifo("fifo")
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    pid = os.fork()
    if pid == 0:
        with open("fifo", "wb") as file:
            file.write(b"through the fifo")
        os._exit(0)
    assert get("fifo") == b"through the fifo"
    os.waitpid(pid, 0)
    os.unlink("fifo")


@test
def fifos_in_detail(capabilities):
    os.mkfifo("fifo", 0o640)
    assert stat.S_IMODE(os.stat("fifo").st_mode) == 0o640 and os.stat("fifo").st_size == 0
    with fails(errno.EEXIST):
        os.mkfifo("fifo")
    with fails(errno.ENXIO):
        os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("fifo", os.O_WRONLY)
    os.link("fifo", "link")
    os.rename("fifo", "renamed")
    os.write(os.open("link" if capabilities["inodeIdentity"] else "renamed", os.O_WRONLY), b"one")
    os.write(writer, b"two")
    assert os.read(reader, 10) == b"onetwo"
    with fails(errno.ESPIPE):
        os.lseek(reader, 0, os.SEEK_SET)
    os.unlink("renamed")
    os.unlink("link")
    os.write(writer, b"three")
    assert os.read(reader, 10) == b"three"


@test
def nodes(_):
    os.mknod("file", 0o640 | stat.S_IFREG)
    assert stat.S_ISREG(os.stat("file").st_mode) and stat.S_IMODE(os.stat("file").st_mode) == 0o640
    put("file", b"content")
    with fails(errno.EEXIST):
        os.mknod("file", 0o600 | stat.S_IFREG)
    with fails(errno.ENOENT):
        os.mknod("missing/file", 0o600 | stat.S_IFREG)
    with fails(errno.EPERM, errno.EINVAL):
        os.mknod("directory", 0o700 | stat.S_IFDIR)


@test_of_mounts
def devices_are_refused(_):
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        with fails(errno.EPERM):
            os.mknod("device", 0o600 | kind, os.makedev(1, 3))
    with fails(errno.EPERM):
        socket.socket(socket.AF_UNIX).bind("socket")
    assert os.listdir(".") == []


@test_of_mounts
def files_without_a_name_are_refused(_):
    with fails(errno.EOPNOTSUPP):
        os.open(".", os.O_TMPFILE | os.O_RDWR)
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(b"made another way")
    assert os.listdir(".") == []


@test
def unknown_controls(_):
    put("file", b"")
    for path in ("file", "."):
        file = os.open(path, os.O_RDONLY)
        for request in (termios.TCGETS, 0x1234, 0xC0106666):
            with fails(errno.ENOTTY):
                fcntl.ioctl(file, request, bytes(64))


@test_of_mounts
def flags_of_files_are_refused(_):
    """What chattr(1) and quotas would set."""
    put("file", b"")
    file = os.open("file", os.O_RDONLY)
    for request in (0x80086601, 0x801C581F):
        with fails(errno.ENOTTY, errno.EOPNOTSUPP):
            fcntl.ioctl(file, request, bytes(64))


@test
def files_are_always_ready(_):
    put("file", b"")
    poll = select.poll()
    poll.register(os.open("file", os.O_RDWR), select.POLLIN | select.POLLOUT)
    assert [events for _file, events in poll.poll(0)] == [select.POLLIN | select.POLLOUT]


@test
def database(_):
    for mode in ("delete", "wal"):
        connection = sqlite3.connect(f"{mode}.db")
        assert connection.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
        connection.execute("create table numbers (n integer primary key, square integer)")
        with connection:
            rows = [(n, n * n) for n in range(2000)]
            connection.executemany("insert into numbers values (?, ?)", rows)
        other = sqlite3.connect(f"{mode}.db")
        assert other.execute("select sum(square) from numbers").fetchone()[0] == sum(n * n for n in range(2000))
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)
        other.close()
        connection.close()
