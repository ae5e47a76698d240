"""What programs rely on when they use a mount: one function a test, run in a process and a directory of its own.

    mount_contract.py MOUNT CAPABILITIES [NAME...]

CAPABILITIES is the engine's `EngineCapabilities` as JSON, and whether this is a directory of a local disk, whose
answers prove the tests right. Prints a JSON object a line and test: its name, and its
error or null.
"""

import json
import os
import signal
import sys
import traceback

# The source tree stays as it is.
sys.dont_write_bytecode = True

from contract import content, copying, extended_attributes, links, locks, mappings, names, ownership  # noqa: E402, F401
from contract import renames, space, special, times, unlinked  # noqa: E402, F401
from contract.support import tests  # noqa: E402

TIME_LIMIT_SECONDS = 120


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
    capabilities = json.loads(capabilities_json)
    for name in names or tests:
        if capabilities["localDisk"] and hasattr(tests[name], "only_mounts"):
            continue
        error = run(name, mount, capabilities)
        print(json.dumps({"name": name, "error": error}), flush=True)
