"""Hard links and symbolic links."""

import errno
import os
import stat

from contract.support import call, fails, get, is_root, libc, put, test


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
def hard_links_in_detail(_):
    os.mkdir("directory")
    put("file", b"content")
    os.symlink("file", "symlink")
    os.link("file", "directory/link")
    os.link("symlink", "symlink too", follow_symlinks=False)
    assert os.readlink("symlink too") == "file" and os.lstat("symlink").st_nlink == 2
    call(libc.linkat, -100, b"symlink", -100, b"followed", 0x400)
    assert os.path.samefile("followed", "file") and os.stat("file").st_nlink == 3
    for taken in ("directory", "symlink", "directory/link"):
        with fails(errno.EEXIST):
            os.link("file", taken)
    with fails(errno.ENOENT):
        os.link("file", "missing/link")
    with fails(errno.ENOTDIR):
        os.link("file", "file/link")
    with fails(errno.ENAMETOOLONG):
        os.link("file", "x" * 256)
    put("open", b"")
    file = os.open("open", os.O_RDWR)
    call(libc.linkat, -100, f"/proc/self/fd/{file}".encode(), -100, b"again", 0x400)
    os.unlink("open")
    assert os.fstat(file).st_nlink == 1
    os.unlink("again")
    with fails(errno.ENOENT):
        call(libc.linkat, -100, f"/proc/self/fd/{file}".encode(), -100, b"back", 0x400)
    os.rename("file", "renamed")
    assert get("directory/link") == b"content" and os.stat("renamed").st_nlink == 3


@test
def symbolic_links_in_detail(_):
    os.mkdir("directory")
    put("directory/file", b"data")
    os.symlink("directory", "to directory")
    os.symlink("x" * 4095, "longest")
    assert os.readlink("longest") == "x" * 4095 and os.lstat("longest").st_size == 4095
    assert get("to directory/file") == b"data" and os.listdir("to directory/") == ["file"]
    os.symlink("../directory/./file", "directory/up")
    assert get("directory/up") == b"data"
    os.symlink(os.path.abspath("directory/file"), "absolute")
    assert get("absolute") == b"data"
    with fails(errno.ENAMETOOLONG):
        os.symlink("x" * 4096, "longer")
    with fails(errno.ENOENT):
        os.symlink("", "empty")
    with fails(errno.EEXIST):
        os.symlink("x", "directory")
    with fails(errno.ENOTDIR):
        os.rmdir("to directory")
    with fails(errno.EINVAL):
        os.readlink("directory")
    previous = "directory/file"
    for i in range(41):
        os.symlink(previous, f"chain-{i}")
        previous = f"chain-{i}"
    assert get("chain-39") == b"data"
    with fails(errno.ELOOP):
        get("chain-40")
    if is_root():
        os.lchown("absolute", 12, 34)
        assert os.lstat("absolute").st_uid == 12 and os.stat("directory/file").st_uid == 0
