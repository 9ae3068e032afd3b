#!/usr/bin/env python3
"""Our COSE against two libraries that no one here wrote, both ways, and with tampered bytes.

    interop/run.py            installs the libraries into a virtual environment and compares
    interop/run.py --golden   also writes the libraries' messages to interop/golden

The environment lies under CARGO_TARGET_DIR, or where TIDEGATE_INTEROP_VENV says.
Exit status: 0 all agree, 1 they do not, 77 the libraries cannot be had here.
"""

import collections
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WORKSPACE = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or WORKSPACE / "target")
VENV = pathlib.Path(os.environ.get("TIDEGATE_INTEROP_VENV") or TARGET / "interop-venv")
INSTALL_SECONDS_MAX = 300
CARGO_SECONDS_MAX = 1200
CANNOT = 77


def enter_environment():
    """Starts over inside the virtual environment, with the libraries installed."""
    pinned = (HERE / "requirements.txt").read_text()
    marker = VENV / "requirements.txt"
    python = VENV / "bin" / "python"
    if not marker.exists() or marker.read_text() != pinned:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
            wanted = [*pip, "-r", HERE / "requirements.txt"]
            subprocess.run(wanted, check=True, timeout=INSTALL_SECONDS_MAX)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"pycose and cwt cannot be installed from PyPI here: {error}")
            sys.exit(CANNOT)
        marker.write_text(pinned)
    os.execv(python, [python, "-B", __file__, *sys.argv[1:], "--inside"])


def cargo(*arguments):
    """Runs the example that is our side."""
    command = ["cargo", "run", "--quiet", "--locked", "-p", "tidegate-trust"]
    command += ["--example", "cose-vectors", "--", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=WORKSPACE, stdout=subprocess.PIPE, text=True, timeout=CARGO_SECONDS_MAX
    )
    if done.returncode != 0:
        sys.exit(f"cose-vectors {arguments[0]} failed")
    return done.stdout


def read(directory):
    for line in (directory / "index").read_text().splitlines():
        name, keys = line.split(" ")
        yield name, (directory / name).read_bytes(), [bytes.fromhex(k) for k in keys.split(",")]


def write(directory, vectors):
    """Writes (name, bytes, public keys) and their index."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "index", "w") as index:
        for name, data, signers in vectors:
            (directory / name).write_bytes(data)
            index.write(f"{name} {','.join(key.hex() for key in signers)}\n")


def verdict(library, data, signers):
    try:
        return library.accepts(data, signers)
    except Exception:  # A refusal: the libraries have no common error.
        return False


def made_by_libraries(ours):
    """Messages of both libraries with the payloads of ours."""
    from libraries import ED25519, EDDSA, LIBRARIES, Key, Unsupported
    import cbor2

    keys = [Key(number) for number in (1, 2, 3)]
    payloads = {name: cbor2.loads(data).value[2] for name, data, _ in ours}
    wanted = [(alg, n) for alg in (EDDSA, ED25519) for n in (0, 1, 2, 3)]
    made, missing = [], []
    for library in LIBRARIES:
        for alg, count in wanted:
            what = f"sign1{alg}" if count == 0 else f"sign{alg}-{count}"
            payload = payloads["directive.cose" if count == 0 else "targets-1.cose"]
            try:
                if count == 0:
                    data = library.sign1(payload, keys[0], alg)
                else:
                    data = library.sign(payload, keys[:count], alg)
            except Unsupported as error:
                missing.append(f"{library.name} makes no {what}: {error}")
                continue
            signers = [key.public for key in keys[: max(count, 1)]]
            made.append((f"{library.name}-{what}.cose", data, signers))
    return made, missing


def main():
    from libraries import LIBRARIES, Key
    from tamper import NO_KID, variants

    failures = []
    with tempfile.TemporaryDirectory(prefix="tidegate-cose-") as scratch:
        scratch = pathlib.Path(scratch)
        cargo("write", scratch / "ours")
        ours = list(read(scratch / "ours"))
        theirs, missing = made_by_libraries(ours)

        accepted = collections.Counter()
        judges = {}
        for name, data, signers in ours + theirs:
            able = [lib for lib in LIBRARIES if not (lib.name == "pycose" and "-19" in name)]
            judges[name] = able
            for library in able:
                if verdict(library, data, signers):
                    accepted[library.name] += 1
                else:
                    failures.append(f"{library.name} refuses {name}")
        write(scratch / "all", ours + theirs)
        for line in cargo("check", scratch / "all").splitlines():
            if line.endswith(" accepted"):
                accepted["tidegate"] += 1
            else:
                failures.append(f"tidegate: {line}")

        stranger = Key(99).kid
        regions, tampered, refused = collections.Counter(), [], collections.Counter()
        for name, data, signers in ours + theirs:
            for region, changed in variants(data, stranger):
                if changed == data:
                    continue
                label = f"{name}.{len(tampered)}"
                regions[region] += 1
                tampered.append((label, changed, signers))
                for library in judges[name]:
                    # To cwt an empty kid is no hint at all: it tries every key that it has.
                    if library.name == "cwt" and region == NO_KID:
                        continue
                    if verdict(library, changed, signers):
                        failures.append(f"{library.name} accepts {name} with another {region}")
                    else:
                        refused[library.name] += 1
        write(scratch / "tampered", tampered)
        for line in cargo("check", scratch / "tampered").splitlines():
            if line.endswith(" accepted"):
                failures.append(f"tidegate: tampered {line}")
            else:
                refused["tidegate"] += 1

    for line in missing:
        print(line)
    print(f"{len(ours)} messages of ours, {len(theirs)} of the libraries'")
    print("accepted:", ", ".join(f"{n} by {who}" for who, n in sorted(accepted.items())))
    print(f"{len(tampered)} tampered:", ", ".join(f"{n} {r}" for r, n in sorted(regions.items())))
    print("refused:", ", ".join(f"{n} by {who}" for who, n in sorted(refused.items())))
    for line in failures:
        print("FAILED:", line)
    if "--golden" in sys.argv and not failures:
        shutil.rmtree(HERE / "golden", ignore_errors=True)
        write(HERE / "golden", theirs)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    if "--inside" in sys.argv:
        main()
    else:
        enter_environment()
