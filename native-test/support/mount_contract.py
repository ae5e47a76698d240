"""What programs rely on when they use a mount: one function a test, run in a process and a directory of its own.

    mount_contract.py MOUNT CAPABILITIES [NAME...]

CAPABILITIES is the engine's `EngineCapabilities` as JSON. Prints a JSON object a line and test: its name, and its
error or null.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import traceback

TIME_LIMIT_SECONDS = 60
PAGE = 4096
CHUNK = 128 * 1024
NOBODY = 65534
libc = ctypes.CDLL(None, use_errno=True)
tests = {}


def test(function):
    tests[function.__name__] = function
    return function


class fails:
    """The block must raise OSError with this errno."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        wanted = [errno.errorcode[number] for number in self.numbers]
        assert error is not None, f"no error instead of {wanted}"
        if not isinstance(error, OSError):
            return False
        found = errno.errorcode.get(error.errno, error.errno)
        assert error.errno in self.numbers, f"{found} instead of {wanted}"
        return True


def call(function, *args):
    """A libc call that raises OSError."""
    result = function(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "libc call failed")
    return result


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def in_child(action):
    """Runs `action` in a forked process and raises if it failed there."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:  # the child must not return into the test runner
            print(f"in child: {error!r}", file=sys.stderr)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"


def as_nobody(action):
    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        action()

    in_child(drop)


# Content


@test
def create_write_read(_):
    with open("file", "xb") as file:
        file.write(b"hello")
        file.seek(10)
        file.write(b"world")
    assert get("file") == b"hello" + bytes(5) + b"world"
    assert os.stat("file").st_size == 15
    with open("file", "r+b") as file:
        file.seek(3)
        file.write(b"XY")
    assert get("file") == b"helXY" + bytes(5) + b"world"
    with fails(errno.EEXIST):
        open("file", "xb")


@test
def append(_):
    put("log", b"start\n")
    first = os.open("log", os.O_WRONLY | os.O_APPEND)
    second = os.open("log", os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write(first, b"first %d\n" % i)
        os.write(second, b"second %d\n" % i)
    expected = b"start\n" + b"".join(b"first %d\nsecond %d\n" % (i, i) for i in range(50))
    assert get("log") == expected


@test
def truncate(_):
    put("file", bytes(range(256)) * 64)
    os.truncate("file", 5000)
    assert get("file") == (bytes(range(256)) * 64)[:5000]
    os.truncate("file", 9000)
    assert get("file") == (bytes(range(256)) * 64)[:5000] + bytes(4000)
    file = os.open("file", os.O_RDWR)
    os.ftruncate(file, 10)
    assert os.fstat(file).st_size == 10
    os.ftruncate(file, 20)
    assert os.pread(file, 100, 0) == bytes(range(10)) + bytes(10)
    os.close(os.open("file", os.O_WRONLY | os.O_TRUNC))
    assert os.fstat(file).st_size == 0
    with fails(errno.EISDIR):
        os.mkdir("directory")
        os.truncate("directory", 0)
    with fails(errno.EFBIG, errno.EINVAL):
        os.ftruncate(file, 2**62)


@test
def sparse_terabyte(_):
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 2**40)
    os.pwrite(file, b"middle", 5 * 2**30 - 3)
    os.pwrite(file, b"end", 2**40 - 3)
    assert os.fstat(file).st_size == 2**40
    assert os.fstat(file).st_blocks * 512 < 2**30
    assert os.pread(file, 12, 5 * 2**30 - 6) == bytes(3) + b"middle" + bytes(3)
    assert os.pread(file, 10, 2**40 - 3) == b"end"
    assert os.pread(file, PAGE, 2**39) == bytes(PAGE)


@test
def whole_file_equals_what_was_written(_):
    generator = random.Random(1)
    data = bytearray(generator.randbytes(24 * 1024 * 1024 + 123))
    put("file", data)
    file = os.open("file", os.O_RDWR)
    for _i in range(300):
        length = generator.choice((1, 100, PAGE, 5000, CHUNK, 200_000))
        offset = generator.randrange(len(data) - length)
        piece = generator.randbytes(length)
        data[offset : offset + length] = piece
        assert os.pwrite(file, piece, offset) == length
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert hashlib.sha256(get("file")).digest() == hashlib.sha256(data).digest()
    for _i in range(300):
        length = generator.choice((1, 100, PAGE, 5000, CHUNK, 200_000))
        offset = generator.randrange(len(data))
        assert os.pread(file, length, offset) == data[offset : offset + length]


@test
def direct_reads_and_writes(_):
    memory = mmap.mmap(-1, 4 * CHUNK)
    memory[:] = random.Random(2).randbytes(len(memory))
    file = os.open("file", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    assert os.pwritev(file, [memory], 0) == len(memory)
    assert get("file") == memory[:]
    os.close(file)
    file = os.open("file", os.O_RDONLY | os.O_DIRECT)
    back = mmap.mmap(-1, 4 * CHUNK)
    assert os.preadv(file, [back], 0) == len(back)
    assert back[:] == memory[:]
    assert os.preadv(file, [memoryview(back)[:PAGE]], 4 * CHUNK) == 0


@test
def concurrent_writers(_):
    put("file", bytes(64 * PAGE))

    def writer(number):
        file = os.open("file", os.O_WRONLY)
        for page in range(number, 64, 4):
            os.pwrite(file, bytes([number + 1]) * PAGE, page * PAGE)

    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            writer(number)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert get("file") == b"".join(bytes([page % 4 + 1]) * PAGE for page in range(64))


@test
def sync_calls(_):
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"data")
    os.fsync(file)
    os.fdatasync(file)
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    call(libc.syncfs, file)


@test
def copies(_):
    os.mkdir("tree")
    os.mkdir("tree/sub")
    put("tree/file", random.Random(3).randbytes(300_000))
    put("tree/sub/empty", b"")
    os.symlink("../file", "tree/sub/link")
    os.chmod("tree/file", 0o640)
    subprocess.run(["cp", "-a", "tree", "copy"], check=True)
    subprocess.run(["diff", "-r", "tree", "copy"], check=True)
    assert stat.S_IMODE(os.stat("copy/file").st_mode) == 0o640
    with open("tree/file", "rb") as source, open("sent", "wb") as target:
        while os.sendfile(target.fileno(), source.fileno(), None, 2**20) > 0:
            pass
    assert get("sent") == get("tree/file")
    shutil.rmtree("tree")
    assert sorted(os.listdir(".")) == ["copy", "sent"]


# Mappings


@test
def mapped_reads(_):
    data = random.Random(4).randbytes(3 * 2**20 + 17)
    put("file", data)
    file = os.open("file", os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    view = mmap.mmap(file, 0, prot=mmap.PROT_READ)
    for page in random.Random(5).sample(range(len(data) // PAGE), 200):
        assert view[page * PAGE : page * PAGE + 64] == data[page * PAGE : page * PAGE + 64]
    assert view[:] == data


@test
def shared_mapped_writes(_):
    put("file", bytes(2**20))
    file = os.open("file", os.O_RDWR)
    view = mmap.mmap(file, 0)
    expected = bytearray(2**20)
    for page in random.Random(6).sample(range(256), 100):
        view[page * PAGE + 10 : page * PAGE + 15] = b"dirty"
        expected[page * PAGE + 10 : page * PAGE + 15] = b"dirty"
    assert os.pread(file, 2**20, 0) == expected
    view.flush()
    view.close()
    os.close(file)
    file = os.open("file", os.O_RDONLY | os.O_DIRECT)
    back = mmap.mmap(-1, 2**20)
    assert os.preadv(file, [back], 0) == 2**20
    assert back[:] == expected


@test
def mapped_writes_reach_the_file_without_a_sync(_):
    put("file", bytes(64 * PAGE))

    def writer():
        file = os.open("file", os.O_RDWR)
        view = mmap.mmap(file, 0)
        os.close(file)
        for page in range(64):
            view[page * PAGE] = page + 1

    in_child(writer)
    file = os.open("file", os.O_RDONLY | os.O_DIRECT)
    back = mmap.mmap(-1, 64 * PAGE)
    assert os.preadv(file, [back], 0) == 64 * PAGE
    assert [back[page * PAGE] for page in range(64)] == list(range(1, 65))


@test
def private_mappings_stay_private(_):
    put("file", bytes(PAGE))
    file = os.open("file", os.O_RDWR)
    view = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE)
    view[0:4] = b"mine"
    assert view[0:4] == b"mine"
    view.close()
    assert get("file") == bytes(PAGE)


# Names


@test
def directories(_):
    os.makedirs("a/b/c")
    assert os.stat("a").st_nlink == 3
    assert os.listdir("a") == ["b"]
    with fails(errno.EEXIST):
        os.mkdir("a")
    with fails(errno.ENOTEMPTY):
        os.rmdir("a")
    os.rmdir("a/b/c")
    with fails(errno.ENOENT):
        os.rmdir("a/b/c")
    put("a/file", b"")
    with fails(errno.ENOTDIR):
        os.rmdir("a/file")
    with fails(errno.EISDIR, errno.EPERM):
        os.unlink("a/b")
    os.chdir("a/b")
    assert os.path.samefile("../..", os.environ["CONTRACT_DIRECTORY"])


@test
def many_entries(_):
    names = [f"entry-{i:05d}-{'x' * (i % 60)}" for i in range(2500)]
    for i, name in enumerate(names):
        os.mkdir(name) if i % 10 == 0 else os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    assert sorted(os.listdir(".")) == names
    with os.scandir(".") as entries:
        for entry in entries:
            i = int(entry.name[6:11])
            assert entry.is_dir() == (i % 10 == 0)
            assert entry.inode() == os.stat(entry.name).st_ino
    subprocess.run(["rm", "-r", "--", *names[:1250]], check=True)
    assert sorted(os.listdir(".")) == names[1250:]


@test
def unusual_names(_):
    names = ["spa ce", "new\nline", "ü", "日本語", "💾", "-rf", "x" * 255, "é" * 127, "\\040", "a,b=c"]
    for name in names:
        put(name, name.encode())
    assert sorted(os.listdir(".")) == sorted(names)
    for name in names:
        assert get(name) == name.encode()
    with fails(errno.ENAMETOOLONG):
        put("x" * 256, b"")
    with fails(errno.EILSEQ, errno.EINVAL):
        os.mkdir(b"\xff\xfe")


@test
def rename(_):
    put("a", b"a")
    put("b", b"b")
    os.rename("a", "c")
    assert sorted(os.listdir(".")) == ["b", "c"]
    os.rename("c", "b")
    assert os.listdir(".") == ["b"] and get("b") == b"a"
    os.rename("b", "b")
    os.makedirs("full/inner")
    os.mkdir("empty")
    os.rename("full", "empty")
    assert os.listdir("empty") == ["inner"]
    os.mkdir("other")
    os.rename("b", "other/b")
    os.rename("empty/inner", "other/inner")
    assert os.stat("empty").st_nlink == 2 and os.stat("other").st_nlink == 3
    with fails(errno.ENOENT):
        os.rename("missing", "x")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename("empty", "other")
    with fails(errno.EINVAL):
        os.rename("other", "other/inner/x")
    with fails(errno.ENOTDIR):
        os.rename("empty", "other/b")
    with fails(errno.EISDIR):
        os.rename("other/b", "empty")


@test
def rename_modes(capabilities):
    at_cwd, no_replace, exchange = -100, 1, 2

    def renameat2(old, new, flags):
        call(libc.renameat2, at_cwd, old.encode(), at_cwd, new.encode(), flags)

    put("a", b"a")
    put("b", b"b")
    if not capabilities["renameModes"]:
        with fails(errno.EINVAL):
            renameat2("a", "c", no_replace)
        with fails(errno.EINVAL):
            renameat2("a", "b", exchange)
        return
    with fails(errno.EEXIST):
        renameat2("a", "b", no_replace)
    renameat2("a", "c", no_replace)
    assert sorted(os.listdir(".")) == ["b", "c"]
    renameat2("b", "c", exchange)
    assert get("b") == b"a" and get("c") == b"b"
    with fails(errno.ENOENT):
        renameat2("b", "missing", exchange)


@test
def hard_links(_):
    put("a", b"one")
    os.link("a", "b")
    assert os.stat("a").st_nlink == 2 and os.stat("b").st_nlink == 2
    assert os.path.samefile("a", "b")
    put("b", b"longer content")
    assert os.stat("a").st_size == 14 and get("a") == b"longer content"
    with open("a", "r+b") as file:
        file.write(b"LONGER")
    assert get("b") == b"LONGER content"
    os.unlink("a")
    assert os.stat("b").st_nlink == 1 and get("b") == b"LONGER content"
    with fails(errno.EEXIST):
        os.link("b", "b")
    os.mkdir("directory")
    with fails(errno.EPERM):
        os.link("directory", "x")
    with fails(errno.ENOENT):
        os.link("missing", "x")


@test
def symbolic_links(_):
    put("file", b"data")
    os.symlink("file", "link")
    os.symlink("missing", "dangling")
    os.symlink("loop", "loop")
    os.symlink("x" * 4000, "long")
    assert os.readlink("link") == "file" and get("link") == b"data"
    assert os.readlink("long") == "x" * 4000
    assert stat.S_ISLNK(os.lstat("link").st_mode) and os.lstat("link").st_size == 4
    with fails(errno.ENOENT):
        get("dangling")
    with fails(errno.ELOOP):
        get("loop")
    with fails(errno.EINVAL):
        os.readlink("file")
    with fails(errno.EEXIST):
        os.symlink("x", "link")
    os.unlink("link")
    assert get("file") == b"data"


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


@test
def errors_of_paths(_):
    put("file", b"")
    os.mkdir("directory")
    with fails(errno.ENOENT):
        get("missing")
    with fails(errno.ENOENT):
        put("missing/file", b"")
    with fails(errno.ENOTDIR):
        get("file/x")
    with fails(errno.ENOTDIR):
        os.mkdir("file/x")
    with fails(errno.ENOTDIR):
        os.listdir("file")
    with fails(errno.EISDIR):
        os.open("directory", os.O_WRONLY)
    with fails(errno.EBADF):
        os.write(os.open("file", os.O_RDONLY), b"x")
    with fails(errno.ENOENT):
        os.unlink("missing")


@test
def many_open_files(_):
    files = [os.open(f"file-{i}", os.O_RDWR | os.O_CREAT) for i in range(400)]
    for i, file in enumerate(files):
        os.write(file, b"%d" % i)
    for i, file in enumerate(files):
        assert os.pread(file, 10, 0) == b"%d" % i
        os.close(file)


# Attributes


@test
def permissions(_):
    put("file", b"secret")
    os.chmod("file", 0o4751)
    assert stat.S_IMODE(os.stat("file").st_mode) == 0o4751
    os.chmod("file", 0o600)
    old = os.umask(0o027)
    os.mkdir("directory")
    put("masked", b"")
    os.umask(old)
    assert stat.S_IMODE(os.stat("directory").st_mode) == 0o750
    assert stat.S_IMODE(os.stat("masked").st_mode) == 0o640
    if os.geteuid() != 0:
        os.chmod("file", 0)
        with fails(errno.EACCES):
            get("file")
        return

    def nobody():
        with fails(errno.EACCES):
            get("file")
        with fails(errno.EACCES):
            put("new", b"")
        with fails(errno.EPERM):
            os.chmod("file", 0o666)

    os.chmod(".", 0o755)
    as_nobody(nobody)


@test
def ownership(capabilities):
    put("file", b"")
    if os.geteuid() != 0:
        assert os.stat("file").st_uid == os.geteuid()
        return
    os.chown("file", 12, 34)
    assert (os.stat("file").st_uid, os.stat("file").st_gid) == (12, 34)
    os.chown("file", -1, 56)
    assert (os.stat("file").st_uid, os.stat("file").st_gid) == (12, 56)
    os.mkdir("theirs")
    os.chown("theirs", NOBODY, NOBODY)
    os.mkdir("shared")
    os.chmod("shared", 0o777)

    def nobody():
        put("theirs/file", b"mine")
        put("shared/file", b"mine")

    as_nobody(nobody)
    assert os.stat("theirs/file").st_uid == NOBODY
    assert os.stat("shared/file").st_uid == (NOBODY if capabilities["callerIdentity"] else 0)


@test
def times(capabilities):
    resolution = capabilities["timeResolutionNs"]
    put("file", b"")
    access, modify = 1_234_567_890_123_456_789, 987_654_321_987_654_321
    os.utime("file", ns=(access, modify))
    found = os.stat("file")
    assert found.st_atime_ns == access // resolution * resolution
    assert found.st_mtime_ns == modify // resolution * resolution
    before = found.st_ctime_ns
    time.sleep(0.01)
    put("file", b"change")
    found = os.stat("file")
    assert found.st_mtime_ns > 1_500_000_000 * 10**9 and found.st_ctime_ns > before
    before = found
    time.sleep(0.01)
    os.chmod("file", 0o600)
    found = os.stat("file")
    assert found.st_ctime_ns > before.st_ctime_ns and found.st_mtime_ns == before.st_mtime_ns
    before = os.stat(".").st_mtime_ns
    time.sleep(0.01)
    put("other", b"")
    assert os.stat(".").st_mtime_ns > before
    os.utime("file")
    assert abs(os.stat("file").st_mtime - time.time()) < 60


@test
def one_time_only(capabilities):
    class TimeSpec(ctypes.Structure):
        _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

    omit = (1 << 30) - 2
    put("file", b"")
    os.utime("file", ns=(10**18, 10**18))
    times_wanted = (TimeSpec * 2)(TimeSpec(0, omit), TimeSpec(1_100_000_000, 0))
    call(libc.utimensat, -100, b"file", times_wanted, 0)
    assert os.stat("file").st_atime_ns == 10**18
    wanted = 1_100_000_000 * 10**9 if capabilities["separateTimes"] else 10**18
    assert os.stat("file").st_mtime_ns == wanted


@test
def extended_attributes(_):
    put("file", b"")
    assert os.listxattr("file") == []
    with fails(errno.ENODATA):
        os.getxattr("file", "user.missing")
    os.setxattr("file", "user.one", b"1")
    os.setxattr("file", "user.empty", b"")
    os.setxattr("file", "user.large", b"\0\xff" * 15_000)
    assert sorted(os.listxattr("file")) == ["user.empty", "user.large", "user.one"]
    assert os.getxattr("file", "user.one") == b"1"
    assert os.getxattr("file", "user.empty") == b""
    assert os.getxattr("file", "user.large") == b"\0\xff" * 15_000
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
def file_system_usage(_):
    usage = os.statvfs(".")
    assert usage.f_namemax == 255
    assert 0 < usage.f_bavail <= usage.f_blocks
    assert usage.f_frsize >= PAGE


# Special files and calls


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
def devices_are_refused(_):
    with fails(errno.EPERM):
        os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))


@test
def allocate(capabilities):
    keep_size, punch_hole, zero_range = 1, 2, 16
    file = os.open("file", os.O_RDWR | os.O_CREAT)

    def fallocate(mode, offset, length):
        call(libc.fallocate64, file, mode, ctypes.c_long(offset), ctypes.c_long(length))

    if not capabilities["allocate"]:
        for mode in (0, keep_size, keep_size | punch_hole, zero_range):
            with fails(errno.EOPNOTSUPP):
                fallocate(mode, 0, PAGE)
        return
    os.pwrite(file, b"x" * (8 * PAGE), 0)
    fallocate(keep_size | punch_hole, PAGE + 100, 2 * PAGE)
    expected = b"x" * (PAGE + 100) + bytes(2 * PAGE) + b"x" * (5 * PAGE - 100)
    assert os.pread(file, 9 * PAGE, 0) == expected
    fallocate(0, 0, 10 * PAGE)
    assert os.fstat(file).st_size == 10 * PAGE
    fallocate(keep_size, 0, 20 * PAGE)
    assert os.fstat(file).st_size == 10 * PAGE
    fallocate(zero_range, 0, 12 * PAGE)
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


def run(name, mount, capabilities):
    """The test's error, or None."""
    directory = os.path.join(mount, name)
    os.mkdir(directory)
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(TIME_LIMIT_SECONDS)  # kills a test that hangs
        error = ""
        try:
            os.environ["CONTRACT_DIRECTORY"] = directory
            os.chdir(directory)
            tests[name](capabilities)
        except BaseException:
            error = traceback.format_exc()
        os.write(error_write, error.encode())
        os._exit(0)
    os.close(error_write)
    with open(error_read) as pipe:
        error = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return error or (None if status == 0 else f"ended with status {status}")


if __name__ == "__main__":
    mount, capabilities_json, *names = sys.argv[1:]
    for name in names or tests:
        error = run(name, mount, json.loads(capabilities_json))
        print(json.dumps({"name": name, "error": error}), flush=True)
