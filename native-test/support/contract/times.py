"""Times of files."""

import ctypes
import errno
import mmap
import os
import time

from contract.support import (
    KEEP_SIZE,
    PAGE,
    PUNCH_HOLE,
    as_nobody,
    call,
    fails,
    fallocate,
    is_root,
    libc,
    put,
    test,
)


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
def times_of_all_ages(capabilities):
    put("file", b"")
    os.symlink("file", "link")
    resolution = capabilities["timeResolutionNs"]
    ages = [0, 2**31 * 10**9 + 5, 2**32 * 10**9 + 999_999_999, 2**33 * 10**9]
    if resolution == 1:
        ages += [-1, -(2**30) * 10**9, -1_500_000_000]
    for age in ages:
        os.utime("file", ns=(age, age + 1_000_000))
        found = os.stat("file")
        assert found.st_atime_ns == age // resolution * resolution
        assert found.st_mtime_ns == (age + 1_000_000) // resolution * resolution
    before = os.stat("file").st_mtime_ns
    os.utime("link", ns=(10**18, 10**18), follow_symlinks=False)
    assert os.lstat("link").st_mtime_ns == 10**18 and os.stat("file").st_mtime_ns == before


@test
def who_may_set_times(_):
    if not is_root():
        return
    for name, mode in (("readable", 0o644), ("writable", 0o666)):
        put(name, b"")
        os.chmod(name, mode)

    def nobody():
        for name in ("readable", "writable"):
            with fails(errno.EPERM):
                os.utime(name, (1, 1))
        with fails(errno.EACCES):
            os.utime("readable")
        os.utime("writable")

    as_nobody(nobody)


@test
def which_times_change(capabilities):
    """Modify and change time of a file and of its directory after each call."""
    os.mkdir("directory")
    os.chdir("directory")
    put("file", b"x" * (2 * PAGE))
    file = os.open("file", os.O_RDWR)
    reader = os.open("file", os.O_RDONLY)
    put("other", b"content")
    other = os.open("other", os.O_RDONLY)
    view = mmap.mmap(file, 0)
    old = 10**18

    def state(path):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_ctime_ns

    def changes(action):
        os.utime(file, ns=(old, old))
        os.utime(".", ns=(old, old))
        before, directory_before = state(file), state(".")
        time.sleep(0.012)
        action()
        after, directory_after = state(file), state(".")
        return "".join(
            letter
            for letter, one, two in zip(
                "mcMC", (*before, *directory_before), (*after, *directory_after), strict=True
            )
            if one != two
        )

    def write_through_mapping():
        view[5] = 65
        view.flush()

    assert changes(lambda: os.pwrite(file, b"data", 0)) == "mc"
    assert changes(lambda: os.pwrite(file, b"", 0)) == ""
    assert changes(lambda: os.pread(reader, 10, 0)) == ""
    assert changes(write_through_mapping) == "mc"
    assert changes(lambda: os.ftruncate(file, 2 * PAGE)) == "mc"
    assert changes(lambda: os.truncate("file", 2 * PAGE + 1)) == "mc"
    assert changes(lambda: os.close(os.open("file", os.O_WRONLY | os.O_TRUNC))) == "mc"
    assert changes(lambda: os.close(os.open("file", os.O_WRONLY | os.O_TRUNC))) == "mc"
    assert changes(lambda: os.copy_file_range(other, file, 7, 0, 0)) == "mc"
    assert changes(lambda: os.fchmod(file, 0o600)) == "c"
    assert changes(lambda: os.fchown(file, os.geteuid(), os.getegid())) == "c"
    assert changes(lambda: os.setxattr(file, "user.x", b"1")) == "c"
    assert changes(lambda: os.removexattr(file, "user.x")) == "c"
    assert changes(lambda: os.link("file", "link")) == "cMC"
    assert changes(lambda: os.unlink("link")) == "cMC"
    assert changes(lambda: os.rename("file", "renamed")) == "cMC"
    assert changes(lambda: os.mkdir("inner")) == "MC"
    assert changes(lambda: os.rename("inner", "../moved")) == "MC"
    assert changes(lambda: os.symlink("x", "symlink")) == "MC"
    assert changes(lambda: os.unlink("symlink")) == "MC"
    assert changes(lambda: os.chmod(".", 0o755)) == "C"
    if capabilities["allocate"]:
        assert changes(lambda: fallocate(file, 0, 0, 3 * PAGE)) == "mc"
        assert changes(lambda: fallocate(file, PUNCH_HOLE | KEEP_SIZE, 0, PAGE)) == "mc"
    assert changes(lambda: os.rename("other", "renamed")) == "cMC"
