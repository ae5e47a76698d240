"""What the tests of the contract share."""

import ctypes
import errno
import os
import sys

PAGE = 4096
CHUNK = 128 * 1024
NOBODY = 65534
libc = ctypes.CDLL(None, use_errno=True)
tests = {}


def test(function):
    tests[function.__name__] = function
    return function


def test_of_mounts(function):
    """A test of what our file systems answer on purpose in another way than a local disk."""
    function.only_mounts = True
    return test(function)


KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32


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


def open_new(path, flags=0):
    """A descriptor of a new file, for reading and writing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o644)


def fallocate(file, mode, offset, length):
    call(libc.fallocate64, file, mode, ctypes.c_long(offset), ctypes.c_long(length))


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


def is_root():
    return os.geteuid() == 0


def as_nobody(action):
    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        action()

    in_child(drop)
