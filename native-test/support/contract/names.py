"""Directories and the names in them."""

import errno
import os
import shutil
import stat
import subprocess

from contract.support import fails, get, put, test, test_of_mounts


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


@test_of_mounts
def names_that_are_not_text(_):
    with fails(errno.EILSEQ):
        os.mkdir(b"\xff\xfe")
    with fails(errno.EILSEQ):
        put(b"\xc3", b"")
    with fails(errno.EILSEQ):
        os.stat(b"\xff")
    assert os.listdir(".") == []


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


@test
def names_that_cannot_be_made_or_removed(_):
    put("file", b"")
    os.symlink("missing", "dangling")
    os.makedirs("directory/inner")
    for taken in ("file", "dangling", "directory", "directory/inner/..", "."):
        with fails(errno.EEXIST):
            os.mkdir(taken)
    with fails(errno.ENOENT):
        os.mkdir("missing/x")
    with fails(errno.ENOENT):
        os.mkdir("")
    with fails(errno.EINVAL):
        os.rmdir("directory/.")
    with fails(errno.ENOTEMPTY):
        os.rmdir("directory/inner/..")
    with fails(errno.ENOTDIR):
        os.rmdir("dangling")
    with fails(errno.ENOTDIR):
        os.unlink("file/")
    with fails(errno.ENAMETOOLONG):
        os.mkdir("x" * 256)
    with fails(errno.ENAMETOOLONG):
        os.stat("y/" * 3000)
    with fails(errno.EISDIR):
        os.unlink("directory")


@test
def directories_that_are_gone(capabilities):
    os.makedirs("a/b")
    directory = os.open("a/b", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("a/b")
    os.rmdir("../b")
    if capabilities["inodeIdentity"]:
        assert os.listdir(directory) == [] and os.fstat(directory).st_nlink == 0
        os.fchmod(directory, 0o700)
        assert stat.S_IMODE(os.stat(".").st_mode) == 0o700
    with fails(errno.ENOENT):
        put("x", b"")
    with fails(errno.ENOENT):
        os.mkdir("x")
    with fails(errno.ENOENT):
        os.symlink("x", "y")
    with fails(errno.ENOENT):
        os.stat("x")
    os.chdir(os.environ["CONTRACT_DIRECTORY"])
    os.mkdir("a/b")
    assert os.listdir("a") == ["b"]
    if capabilities["inodeIdentity"]:
        assert not os.path.sameopenfile(directory, os.open("a/b", os.O_RDONLY))


@test
def listing_while_names_change(_):
    names = {f"entry-{i:04d}" for i in range(500)}
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(".") as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.name)
    assert len(seen) == len(names) and set(seen) == names
    assert os.listdir(".") == []
    directory = os.open(".", os.O_RDONLY)
    assert os.listdir(directory) == []
    put("later", b"")
    assert os.listdir(directory) == ["later"]


@test
def listings_say_what_there_is(_):
    put("file", b"")
    os.mkdir("directory")
    os.symlink("file", "link")
    os.mkfifo("fifo")
    with os.scandir(".") as entries:
        found = {entry.name: entry for entry in entries}
    assert sorted(found) == ["directory", "fifo", "file", "link"]
    assert found["file"].is_file(follow_symlinks=False) and found["link"].is_symlink()
    assert found["directory"].is_dir(follow_symlinks=False)
    for name, entry in found.items():
        assert entry.inode() == os.lstat(name).st_ino
        assert entry.stat(follow_symlinks=False).st_mode == os.lstat(name).st_mode
    output = subprocess.run(["ls", "-aiU", "directory"], check=True, capture_output=True, text=True).stdout
    listed = dict(reversed(line.split()) for line in output.splitlines())
    assert int(listed["."]) == os.stat("directory").st_ino and int(listed[".."]) == os.stat(".").st_ino


@test
def deep_and_similar_names(_):
    path = "/".join(["d"] * 200)
    os.makedirs(path)
    put(f"{path}/file", b"deep")
    assert get(f"{path}/file") == b"deep"
    for i, name in enumerate(("case", "Case", "CASE", "\u00e9", "e\u0301", " ", "..x", "...")):
        put(name, b"%d" % i)
    for i, name in enumerate(("case", "Case", "CASE", "\u00e9", "e\u0301", " ", "..x", "...")):
        assert get(name) == b"%d" % i
    shutil.rmtree("d")


@test
def names_are_looked_up_again(_):
    """What the kernel remembers of names, missing ones included, follows every change."""
    for _i in range(3):
        with fails(errno.ENOENT):
            os.stat("name")
        put("name", b"file")
        assert get("name") == b"file"
        os.unlink("name")
        with fails(errno.ENOENT):
            os.stat("name")
        os.mkdir("name")
        put("name/inner", b"")
        os.rename("name", "other")
        with fails(errno.ENOENT):
            os.stat("name/inner")
        os.unlink("other/inner")
        os.rmdir("other")
