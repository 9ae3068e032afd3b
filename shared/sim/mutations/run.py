#!/usr/bin/env python3
"""Breaks one rule at a time in a copy of the cores, and sees whether the simulator notices.

    shared/sim/mutations/run.py               every mutation of mutations.toml
    shared/sim/mutations/run.py NAME ...      these
    shared/sim/mutations/run.py --seeds 200   at most so many seeds each (1000)

A checker that cannot fail proves nothing. Each mutation is one exact piece of source text and what
takes its place; a mutation whose text is not found exactly once is an error, so the list cannot rot
unnoticed. The copy and its build lie under the target folder; the working tree is never touched.

Exit status: 0 every mutation was caught by an invariant that it names, 1 one was not, 2 the list is
wrong or the unbroken simulator fails.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
COPY = TARGET / "mutations" / "workspace"
# Rebuilt for every mutation, so the build's time counts as much as the run's.
BUILD = {
    "CARGO_TARGET_DIR": str(TARGET / "mutations" / "target"),
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    "CARGO_PROFILE_RELEASE_INCREMENTAL": "true",
}


def copy_workspace():
    """The tracked files as they are now, written only where they differ: cargo goes by times."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode().split("\0")
    wanted = {name for name in files if name and (ROOT / name).is_file()}
    for name in sorted(wanted):
        source, copy = ROOT / name, COPY / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for copy in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(copy.relative_to(COPY)) not in wanted:
            copy.unlink()


def build():
    """Compiles the copy's simulator; its path."""
    command = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "tidegate-sim"]
    done = subprocess.run(command, cwd=COPY, env={**os.environ, **BUILD}, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"the copy does not compile:\n{done.stderr.decode()[-4000:]}")
    return pathlib.Path(BUILD["CARGO_TARGET_DIR"]) / "release" / "tidegate-sim"


def run(program, seeds):
    """What the simulator says, and whether it is content."""
    command = [str(program), "--seeds", str(seeds), "--until-failure"]
    done = subprocess.run(command, capture_output=True, timeout=1200)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def mutated(mutation):
    """Each file to change: its path, its text, and the text with the rule broken."""
    whole, broken = {}, {}
    for edit in mutation["edit"]:
        path = COPY / edit["file"]
        whole.setdefault(path, path.read_text())
        text = broken.setdefault(path, whole[path])
        count = text.count(edit["find"])
        if count != 1:
            print(f"{mutation['name']}: its text stands {count} times in {edit['file']}, not once")
            sys.exit(2)
        broken[path] = text.replace(edit["find"], edit["replace"])
    return [(path, whole[path], broken[path]) for path in whole]


def try_one(mutation, seeds):
    """Whether an invariant that the mutation names caught it."""
    changes = mutated(mutation)
    begun = time.monotonic()
    for path, _, broken in changes:
        path.write_text(broken)
    try:
        status, said = run(build(), seeds)
    finally:
        for path, whole, _ in changes:
            path.write_text(whole)
    took = time.monotonic() - begun
    found = re.search(r"seed (\d+): ([a-z-]+)", said)
    if status == 0 or not found:
        print(f"NOT CAUGHT {mutation['name']} ({took:.0f} s): {mutation['breaks']}\n{said[-1500:]}")
        return False
    seed, invariant = found.groups()
    verdict = "caught" if invariant in mutation["caught_by"] else "CAUGHT BY ANOTHER"
    print(f"{verdict} {mutation['name']}: {invariant}, seed {seed} ({took:.0f} s)", flush=True)
    return verdict == "caught"


def main():
    arguments = argparse.ArgumentParser(description="Proves that the simulator's checkers can fail.")
    arguments.add_argument("names", nargs="*", help="mutations to try; all if none is given")
    arguments.add_argument("--seeds", type=int, default=1000, help="seeds for each, at most (1000)")
    chosen = arguments.parse_args()
    mutations = tomllib.loads((HERE / "mutations.toml").read_text())["mutation"]
    unknown = set(chosen.names) - {mutation["name"] for mutation in mutations}
    if unknown:
        print(f"mutations.toml has no mutation called {', '.join(sorted(unknown))}")
        return 2
    wanted = [m for m in mutations if not chosen.names or m["name"] in chosen.names]
    copy_workspace()
    for mutation in wanted:
        mutated(mutation)
    status, said = run(build(), 20)
    if status != 0:
        print(f"the simulator fails although nothing is broken:\n{said[-3000:]}")
        return 2
    caught = [try_one(mutation, chosen.seeds) for mutation in wanted]
    print(f"{sum(caught)} of {len(caught)} mutations caught")
    return 0 if all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
