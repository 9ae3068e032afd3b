"""Drives a TUF client through repositories that python-tuf made, honest and hostile ones.

    check.py CLIENT [PART OF A NAME]

Prints every case and a count. Exit status 1 if the client did anything that it should not.
"""

import contextlib
import sys
import tempfile
import traceback

import cases_files
import cases_keys
import cases_refresh
import cases_time
from cases import CASES
from device import Device, Wrong
from repository import Repository, Server

MODULES = [cases_refresh, cases_keys, cases_time, cases_files]


def holds(program, server, function, arguments):
    """Runs a case with a repository and a device of its own."""
    devices = []
    with contextlib.ExitStack() as folders:

        def start(**options):
            repository = Repository(**options)
            folder = folders.enter_context(tempfile.TemporaryDirectory())
            devices.append(Device(program, server, repository, folder))
            return repository, devices[-1]

        try:
            function(start, *arguments)
            return True
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[1]
            print(f"  {frame.filename}:{frame.lineno}: {frame.line}")
            print(f"  {type(error).__name__}: {error}")
            print(f"  the client: {devices[-1].said if devices else 'was not started'}")
            return False


def main(program, part=""):
    server = Server()
    chosen = [case for case in CASES if part in case[0]]
    wrong = []
    for name, function, arguments in chosen:
        held = holds(program, server, function, arguments)
        print("ok    " if held else "WRONG ", name, flush=True)
        if not held:
            wrong.append(name)
    print(f"\n{len(chosen) - len(wrong)} of {len(chosen)} cases hold")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
