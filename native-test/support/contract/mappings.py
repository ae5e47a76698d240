"""Memory mappings."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import signal
import subprocess

from contract.support import PAGE, fails, get, in_child, libc, open_new, put, test


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


@test
def mappings_and_calls_see_each_other(_):
    file = open_new("file")
    os.write(file, bytes(2 * PAGE))
    view = mmap.mmap(file, 0)
    reading = mmap.mmap(file, 0, prot=mmap.PROT_READ)
    private = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE)
    assert private[PAGE] == 0
    os.pwrite(file, b"written", 10)
    assert view[10:17] == b"written" and reading[10:17] == b"written"
    view[PAGE : PAGE + 6] = b"mapped"
    assert os.pread(file, 6, PAGE) == b"mapped" and reading[PAGE : PAGE + 6] == b"mapped"
    private[0:4] = b"mine"
    os.pwrite(file, b"ours", 0)
    assert private[0:4] == b"mine" and view[0:4] == b"ours"

    def other():
        mmap.mmap(os.open("file", os.O_RDWR), 0)[20:25] = b"other"

    in_child(other)
    assert view[20:25] == b"other"


@test
def mappings_outlive_their_names(_):
    file = open_new("file")
    os.write(file, b"x" * PAGE)
    view = mmap.mmap(file, 0)
    os.close(file)
    os.unlink("file")
    view[5] = 65
    view.flush()
    assert view[0:6] == b"xxxxxA"
    put("file", b"another")
    assert view[0:6] == b"xxxxxA" and get("file") == b"another"


@test
def what_may_be_mapped(_):
    put("file", b"x" * PAGE)
    reader = os.open("file", os.O_RDONLY)
    with fails(errno.EACCES):
        mmap.mmap(reader, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view = mmap.mmap(reader, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view[0] = 65
    assert get("file") == b"x" * PAGE
    with fails(errno.EACCES):
        mmap.mmap(os.open("file", os.O_WRONLY), PAGE, prot=mmap.PROT_WRITE)
    with fails(errno.ENODEV):
        mmap.mmap(os.open(".", os.O_RDONLY), PAGE, prot=mmap.PROT_READ)


@test
def pages_after_the_end_are_bus_errors(_):
    put("file", b"x" * (PAGE + 100))
    file = os.open("file", os.O_RDWR)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(4 * PAGE), 3, 1, file, ctypes.c_long(0))
    byte = ctypes.c_char.from_address
    assert byte(address + PAGE + 99).value == b"x" and byte(address + 2 * PAGE - 1).value == b"\0"

    def touch(page):
        pid = os.fork()
        if pid == 0:
            byte(address + page * PAGE).value
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    assert touch(1) == 0 and touch(2) == signal.SIGBUS
    os.ftruncate(file, 3 * PAGE)
    assert touch(2) == 0 and touch(3) == signal.SIGBUS
    os.ftruncate(file, 10)
    assert touch(0) == 0 and touch(1) == signal.SIGBUS


@test
def programs_run_from_the_mount(_):
    shutil.copyfile("/bin/true", "program")
    with fails(errno.EACCES):
        os.execv("./program", ["program"])
    os.chmod("program", 0o755)
    subprocess.run(["./program"], check=True)
    put("script", b"#!/bin/sh\nexit 3\n")
    os.chmod("script", 0o755)
    assert subprocess.run(["./script"]).returncode == 3
    file = os.open("program", os.O_WRONLY)
    with fails(errno.ETXTBSY):
        os.execv("./program", ["program"])
    os.close(file)
    shutil.copyfile("/bin/sleep", "sleep")
    os.chmod("sleep", 0o755)
    with subprocess.Popen(["./sleep", "60"]) as running:
        with fails(errno.ETXTBSY):
            os.open("sleep", os.O_WRONLY)
        os.unlink("sleep")
        running.kill()
