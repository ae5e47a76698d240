"""Reading, writing, truncating."""

import ctypes
import errno
import hashlib
import mmap
import os
import random
import resource
import shutil
import signal
import stat
import subprocess

from contract.support import CHUNK, PAGE, call, fails, get, in_child, libc, open_new, put, test


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


@test
def opening(_):
    put("file", b"content")
    os.mkdir("directory")
    os.symlink("file", "link")
    os.symlink("made", "dangling")
    with fails(errno.EEXIST):
        open_new("file")
    with fails(errno.EEXIST):
        open_new("dangling")
    with fails(errno.EISDIR):
        os.open("directory", os.O_WRONLY | os.O_CREAT)
    with fails(errno.ENOTDIR):
        os.open("file", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ELOOP):
        os.open("link", os.O_RDONLY | os.O_NOFOLLOW)
    with fails(errno.ENOTDIR):
        os.open("file/", os.O_RDONLY)
    with fails(errno.EISDIR):
        os.open("new/", os.O_RDWR | os.O_CREAT)
    with fails(errno.EBADF):
        os.read(os.open("file", os.O_WRONLY), 1)
    os.close(os.open("dangling", os.O_WRONLY | os.O_CREAT))
    assert os.path.exists("made")
    # The mode of a new file does not bind the call that makes it.
    file = os.open("readonly", os.O_WRONLY | os.O_CREAT, 0o444)
    assert os.write(file, b"data") == 4
    assert stat.S_IMODE(os.fstat(file).st_mode) == 0o444
    os.close(os.open("file", os.O_RDONLY | os.O_TRUNC))
    assert os.stat("file").st_size == 0


@test
def offsets(_):
    file = open_new("file")
    assert os.write(file, b"0123456789") == 10
    assert os.pread(file, 10, 10) == b"" and os.pread(file, 10, 2**40) == b""
    assert os.pread(file, 5, 8) == b"89"
    assert os.lseek(file, -3, os.SEEK_END) == 7 and os.read(file, 10) == b"789"
    assert os.lseek(file, 2, os.SEEK_CUR) == 12
    assert os.write(file, b"") == 0 and os.fstat(file).st_size == 10
    assert os.write(file, b"ab") == 2 and os.pread(file, 20, 0) == b"0123456789\0\0ab"
    assert os.pwritev(file, [b"x", b"yz"], 1) == 3
    pieces = [bytearray(2), bytearray(3)]
    assert os.preadv(file, pieces, 0) == 5 and pieces == [b"0x", b"yz4"]
    with fails(errno.EINVAL):
        os.lseek(file, -1, os.SEEK_SET)
    with fails(errno.EINVAL):
        os.pread(file, 1, -1)
    with fails(errno.EFBIG):
        os.pwrite(file, b"x", 2**62)


@test
def append_to_the_end_as_it_is(_):
    put("log", b"start")
    file = os.open("log", os.O_RDWR | os.O_APPEND)
    other = os.open("log", os.O_RDWR)
    os.pwrite(other, b"more", 5)
    os.write(file, b"|")
    os.ftruncate(other, 2)
    os.write(file, b"|")
    assert get("log") == b"st|"
    # Linux appends whatever the offset says.
    os.pwrite(file, b"!", 0)
    assert get("log") == b"st|!"
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"?")
    assert get("log") == b"st|!?" and os.lseek(file, 0, os.SEEK_CUR) == 5


@test
def truncate_errors(_):
    put("file", b"content")
    os.mkfifo("fifo")
    reader = os.open("file", os.O_RDONLY)
    with fails(errno.EINVAL):
        os.ftruncate(reader, 1)
    with fails(errno.EINVAL):
        os.ftruncate(os.open("file", os.O_WRONLY), -1)
    with fails(errno.EINVAL):
        os.truncate("fifo", 0)
    with fails(errno.ENOENT):
        os.truncate("missing", 0)
    with fails(errno.ENOTDIR):
        os.truncate("file/x", 0)

    def with_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with fails(errno.EFBIG):
            os.truncate("file", 10_001)
        os.truncate("file", 9_998)
        file = os.open("file", os.O_WRONLY)
        assert os.pwrite(file, b"1234", 9_998) == 2
        with fails(errno.EFBIG):
            os.pwrite(file, b"1", 10_000)

    in_child(with_limit)
    assert os.stat("file").st_size == 10_000


@test
def what_was_cut_off_does_not_come_back(_):
    put("file", b"x" * (3 * PAGE))
    file = os.open("file", os.O_RDWR)
    view = mmap.mmap(file, 0)
    assert view[2 * PAGE] == 120
    os.ftruncate(file, PAGE + 10)
    os.ftruncate(file, 3 * PAGE)
    expected = b"x" * (PAGE + 10) + bytes(2 * PAGE - 10)
    assert view[:] == expected and os.pread(file, 4 * PAGE, 0) == expected
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(file, 4 * PAGE, 0) == expected
    os.ftruncate(file, PAGE + 10)
    os.pwrite(file, b"y", 2 * PAGE)
    assert os.pread(file, 4 * PAGE, 0) == expected[: 2 * PAGE] + b"y"


@test
def direct_and_buffered_are_one_file(_):
    memory = mmap.mmap(-1, 2 * PAGE)
    buffered = open_new("file")
    os.write(buffered, b"a" * (4 * PAGE))
    direct = os.open("file", os.O_RDWR | os.O_DIRECT)
    assert os.preadv(direct, [memory], PAGE) == 2 * PAGE and memory[:] == b"a" * (2 * PAGE)
    view = mmap.mmap(buffered, 0)
    view[0:3] = b"map"
    assert os.preadv(direct, [memory], 0) == 2 * PAGE and memory[0:4] == b"mapa"
    memory[:] = b"b" * (2 * PAGE)
    assert os.pwritev(direct, [memory], PAGE) == 2 * PAGE
    expected = b"map" + b"a" * (PAGE - 3) + b"b" * (2 * PAGE) + b"a" * PAGE
    assert os.pread(buffered, 5 * PAGE, 0) == expected and view[:] == expected
    # Longer than the file, and the end of what a read gets.
    assert os.pwritev(direct, [memory], 4 * PAGE) == 2 * PAGE
    assert os.fstat(direct).st_size == 6 * PAGE
    assert os.preadv(direct, [memory], 5 * PAGE) == PAGE


@test
def synchronous_writes(_):
    for flag in (os.O_SYNC, os.O_DSYNC, os.O_DSYNC | os.O_APPEND):
        file = os.open("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC | flag)
        for i in range(20):
            assert os.write(file, b"%03d\n" % i) == 4
        assert get("file") == b"".join(b"%03d\n" % i for i in range(20))
    file = os.open("file", os.O_RDWR)
    assert os.pwritev(file, [b"XXX"], 4, os.RWF_DSYNC) == 3
    assert os.pread(file, 8, 0) == b"000\nXXX\n"
    call(libc.sync_file_range, file, ctypes.c_long(0), ctypes.c_long(0), 7)
    reader = os.open("file", os.O_RDONLY)
    os.fsync(reader)
    os.unlink("file")
    os.fsync(file)
    os.fdatasync(reader)
    os.mkfifo("fifo")
    with fails(errno.EINVAL):
        os.fsync(os.open("fifo", os.O_RDWR))


@test
def pipes_and_files(_):
    data = random.Random(7).randbytes(200_000)
    put("file", data)
    source = os.open("file", os.O_RDONLY)
    target = open_new("copy")
    read_end, write_end = os.pipe()
    while True:
        count = os.splice(source, write_end, 50_000)
        if count == 0:
            break
        while count > 0:
            count -= os.splice(read_end, target, count)
    assert get("copy") == data
