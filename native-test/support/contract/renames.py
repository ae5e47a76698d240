"""Renaming."""

import errno
import os

from contract.support import call, fails, get, libc, put, test, test_of_mounts


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


NO_REPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    at_cwd = -100
    call(libc.renameat2, at_cwd, old.encode(), at_cwd, new.encode(), flags)


@test
def rename_modes(capabilities):
    put("a", b"a")
    put("b", b"b")
    if not capabilities["renameModes"]:
        with fails(errno.EINVAL):
            renameat2("a", "c", NO_REPLACE)
        with fails(errno.EINVAL):
            renameat2("a", "b", EXCHANGE)
        return
    with fails(errno.EEXIST):
        renameat2("a", "b", NO_REPLACE)
    renameat2("a", "c", NO_REPLACE)
    assert sorted(os.listdir(".")) == ["b", "c"]
    renameat2("b", "c", EXCHANGE)
    assert get("b") == b"a" and get("c") == b"b"
    with fails(errno.ENOENT):
        renameat2("b", "missing", EXCHANGE)


@test
def rename_modes_in_detail(capabilities):
    os.makedirs("a/inner")
    os.makedirs("b")
    put("file", b"file")
    put("b/file", b"other")
    os.symlink("missing", "dangling")
    for flags in (NO_REPLACE | EXCHANGE, EXCHANGE | WHITEOUT, 64):
        with fails(errno.EINVAL):
            renameat2("file", "x", flags)
    if not capabilities["renameModes"]:
        return
    for taken in ("dangling", "a", "b/file", "file"):
        with fails(errno.EEXIST):
            renameat2("file", taken, NO_REPLACE)
    with fails(errno.ENOENT):
        renameat2("missing", "file", EXCHANGE)
    with fails(errno.EINVAL):
        renameat2("a", "a/inner", EXCHANGE)
    with fails(errno.EINVAL):
        renameat2("a/inner", "a", EXCHANGE)
    # A file and a directory, in different directories.
    renameat2("a/inner", "b/file", EXCHANGE)
    assert get("a/inner") == b"other" and os.listdir("b/file") == []
    assert os.stat("a").st_nlink == 2 and os.stat("b").st_nlink == 3
    assert os.path.samefile("b/file/..", "b")
    renameat2("dangling", "file", EXCHANGE)
    assert os.readlink("file") == "missing" and get("dangling") == b"file"
    renameat2("b/file", "b/file", EXCHANGE)
    assert os.listdir("b") == ["file"]


@test
def rename_in_detail(_):
    put("file", b"file")
    os.link("file", "same")
    os.rename("file", "same")
    assert sorted(os.listdir(".")) == ["file", "same"]
    os.makedirs("a/b/c")
    os.chdir("a/b/c")
    os.rename("../../b", "../../moved")
    assert os.path.samefile("../../moved", "..")
    os.chdir(os.environ["CONTRACT_DIRECTORY"])
    os.mkdir("target")
    os.rename("a/moved", "target/b")
    assert os.stat("a").st_nlink == 2 and os.stat("target").st_nlink == 3
    assert os.path.samefile("target/b/..", "target")
    os.symlink("missing", "link")
    os.rename("link", "renamed link")
    assert os.readlink("renamed link") == "missing"
    os.rename("file", "renamed link")
    assert get("renamed link") == b"file" and os.stat("same").st_nlink == 2
    with fails(errno.EBUSY, errno.EINVAL):
        os.rename("a", "target/b/..")
    with fails(errno.EBUSY, errno.EINVAL):
        os.rename(".", "x")
    with fails(errno.ENOTDIR):
        os.rename("same", "x/")
    with fails(errno.ENOTDIR):
        os.rename("same/", "x")
    with fails(errno.ENAMETOOLONG):
        os.rename("same", "x" * 256)
    with fails(errno.ENOENT):
        os.rename("same", "missing/x")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename("a", "target")
    with fails(errno.EINVAL):
        os.rename("target", "target/b/c/x")


@test_of_mounts
def white_outs_are_refused(_):
    put("file", b"")
    with fails(errno.EINVAL):
        renameat2("file", "other", WHITEOUT)
    assert os.listdir(".") == ["file"]
