"""Permissions and owners."""

import errno
import os
import stat

from contract.support import (
    KEEP_SIZE,
    NOBODY,
    PAGE,
    PUNCH_HOLE,
    as_nobody,
    fails,
    fallocate,
    get,
    is_root,
    put,
    test,
)


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
def permissions_of_directories(capabilities):
    if not is_root():
        os.mkdir("closed", 0)
        with fails(errno.EACCES):
            os.listdir("closed")
        os.chmod("closed", 0o700)
        return
    os.makedirs("sticky")
    os.makedirs("closed/inner")
    os.makedirs("listed/inner")
    put("sticky/of root", b"")
    os.chmod("sticky", 0o1777)
    os.chmod("closed", 0o711)
    os.chmod("listed", 0o744)

    def nobody():
        with fails(errno.EPERM):
            os.unlink("sticky/of root")
        with fails(errno.EPERM):
            os.rename("sticky/of root", "sticky/mine")
        if capabilities["callerIdentity"]:
            put("sticky/mine", b"")
            with fails(errno.EPERM):
                os.rename("sticky/mine", "sticky/of root")
            os.unlink("sticky/mine")
        with fails(errno.EACCES):
            os.listdir("closed")
        assert os.listdir("closed/inner") == []
        assert os.listdir("listed") == ["inner"]
        with fails(errno.EACCES):
            os.stat("listed/inner")
        with fails(errno.EACCES):
            os.mkdir("closed/inner/new")
        with fails(errno.EACCES):
            os.rmdir("closed/inner")
        with fails(errno.EACCES):
            os.symlink("x", "closed/inner/link")
        assert not os.access("closed", os.R_OK) and os.access("closed", os.X_OK)

    os.chmod(".", 0o755)
    as_nobody(nobody)


@test
def who_may_change_owners(_):
    put("file", b"")
    if not is_root():
        with fails(errno.EPERM):
            os.chown("file", 0, -1)
        return
    put("theirs", b"")
    os.chown("theirs", NOBODY, NOBODY)
    os.chmod("theirs", 0o6777)

    def nobody():
        with fails(errno.EPERM):
            os.chown("file", NOBODY, -1)
        with fails(errno.EPERM):
            os.chown("theirs", 0, -1)
        with fails(errno.EPERM):
            os.chown("theirs", -1, 0)
        with fails(errno.EPERM):
            os.chmod("file", 0o777)
        assert os.stat("theirs").st_mode & 0o6000 == 0o6000
        os.chown("theirs", NOBODY, NOBODY)
        assert os.stat("theirs").st_mode & 0o6000 == 0
        os.chmod("theirs", 0o4711)

    as_nobody(nobody)
    assert stat.S_IMODE(os.stat("theirs").st_mode) == 0o4711
    # The mark of another group is not for its members to set.
    os.chown("theirs", NOBODY, 12)
    as_nobody(lambda: os.chmod("theirs", 0o2755))
    assert stat.S_IMODE(os.stat("theirs").st_mode) == 0o755
    os.chmod("theirs", 0o2755)
    assert stat.S_IMODE(os.stat("theirs").st_mode) == 0o2755


@test
def groups_of_new_files(capabilities):
    os.mkdir("plain")
    os.mkdir("shared")
    if not is_root():
        os.chmod("shared", 0o2755)
        os.mkdir("shared/inner")
        assert os.stat("shared/inner").st_mode & 0o2000
        return
    for name in ("plain", "shared"):
        os.chown(name, 0, 12)
    os.chmod("plain", 0o777)
    os.chmod("shared", 0o2777)

    def nobody():
        for directory in ("plain", "shared"):
            put(f"{directory}/file", b"")
            os.mkdir(f"{directory}/inner")
            os.symlink("x", f"{directory}/link")

    as_nobody(nobody)
    for name in ("file", "inner", "link"):
        assert os.lstat(f"shared/{name}").st_gid == 12
        if capabilities["callerIdentity"]:
            assert os.lstat(f"plain/{name}").st_gid == NOBODY
    assert os.stat("shared/inner").st_mode & 0o2000 and not os.stat("shared/file").st_mode & 0o2000
    assert not os.stat("plain/inner").st_mode & 0o2000


@test
def set_user_id_goes(capabilities):
    """A file that others change loses its owner's rights."""
    if not is_root():
        return
    put("other", b"other")
    os.chmod("other", 0o644)
    os.chmod(".", 0o755)

    def after(action, mode=0o6777):
        put("program", b"x" * (2 * PAGE))
        os.chmod("program", mode)
        assert stat.S_IMODE(os.stat("program").st_mode) == mode
        as_nobody(action)
        return stat.S_IMODE(os.stat("program").st_mode)

    def opened(action):
        return lambda: action(os.open("program", os.O_RDWR))

    def copy(file):
        os.copy_file_range(os.open("other", os.O_RDONLY), file, 5, 0, 0)

    writing = opened(lambda file: os.write(file, b"y"))
    assert after(opened(lambda file: os.read(file, 1))) == 0o6777
    assert after(writing) == 0o777
    assert after(writing, 0o4777) == 0o777 and after(writing, 0o2777) == 0o777
    assert after(opened(lambda file: os.ftruncate(file, 1))) == 0o777
    assert after(lambda: os.truncate("program", 1)) == 0o777
    assert after(lambda: os.open("program", os.O_WRONLY | os.O_TRUNC)) == 0o777
    assert after(opened(copy)) == 0o777
    if capabilities["allocate"]:
        assert after(opened(lambda file: fallocate(file, PUNCH_HOLE | KEEP_SIZE, 0, PAGE))) == 0o777
    # Root changes files without such consequences, but an owner that changes is one for all.
    put("program", b"x")
    os.chmod("program", 0o6777)
    with open("program", "r+b") as file:
        file.write(b"y")
    assert stat.S_IMODE(os.stat("program").st_mode) == 0o6777
    os.chown("program", 12, -1)
    assert stat.S_IMODE(os.stat("program").st_mode) == 0o777
