#!/usr/bin/env python3
"""Text models against implementations that no one here wrote.

    agent/tests/text/oracle/run.py           makes models, asks the references, compares
    agent/tests/text/oracle/run.py --models  writes the models in agent/tests/text/models anew

Encoders are compared with transformers' BERT (Flax), one of them as large as all-MiniLM-L6;
decoders of three kinds of quantisation with a network written in numpy, and with llama.cpp where
npm can be had (package node-llama-cpp).

The environment lies under CARGO_TARGET_DIR, or where TIDEGATE_TEXT_VENV says.
Exit status: 0 all agree, 1 they do not, 77 the libraries cannot be had here.
"""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WORKSPACE = HERE.parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or WORKSPACE / "target")
VENV = pathlib.Path(os.environ.get("TIDEGATE_TEXT_VENV") or TARGET / "text-venv")
NODE = TARGET / "text-node"
INSTALL_SECONDS_MAX = 600
CARGO_SECONDS_MAX = 3000
CANNOT = 77
ALL_FEATURES = "tidegate-agent/candle,tidegate-agent/grpc,tidegate-agent/onnxruntime"

SMALL = dict(hidden=32, layers=2, heads=4, inner=64, positions=64)
# The dimensions of all-MiniLM-L6, a vocabulary like its own included.
MINILM = dict(hidden=384, layers=6, heads=12, inner=1536, positions=512, vocabulary=30522)
TWO_LAYERS = dict(width=64, inner=96, layers=2, heads=4, key_heads=2, context=256)
# Q4_K comes in blocks of 256.
WIDE = dict(width=256, inner=256, layers=2, heads=4, key_heads=4, context=256)


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
            print(f"transformers, JAX and gguf cannot be installed from PyPI here: {error}")
            sys.exit(CANNOT)
        marker.write_text(pinned)
    os.environ["TIDEGATE_TEXT_INSIDE"] = "1"
    os.execv(python, [python, __file__, *sys.argv[1:]])


def write_models():
    """The models that the Rust tests always have: small ones."""
    import decoder
    import encoder

    with tempfile.TemporaryDirectory() as folder:
        encoder.make(folder, "encoder", dict(SMALL), 0.2, "mean", True, 48)
        decoder.make(folder, "decoder", ["Q8_0"], 400, **TWO_LAYERS)
        for made in pathlib.Path(folder).iterdir():
            name = made.name.split("-")[0]
            place = HERE.parent / "models" / name
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(made, place)
            described = (place / "model.toml").read_text().replace(made.name, name, 1)
            (place / "model.toml").write_text(described)


def make_models(folder):
    import decoder
    import encoder

    encoder.make(folder, "first-token", dict(SMALL), 0.3, "cls", False, 64)
    encoder.make(folder, "minilm-sized", dict(MINILM), 0.04, "mean", True, 256)
    decoder.make(folder, "manual", ["F16", "Q8_0"], 400, **TWO_LAYERS)
    decoder.make(folder, "wide", ["Q4_K"], 250, **WIDE)


def ask_llama(folder):
    """Asks llama.cpp what `asked.json` asks; None if it cannot be had here."""
    if not shutil.which("npm"):
        return None
    package = NODE / "node_modules" / "node-llama-cpp"
    if not package.exists():
        NODE.mkdir(parents=True, exist_ok=True)
        version = (HERE / "node-llama-cpp").read_text().strip()
        # Without the optional parts, which are for graphics cards and other systems.
        machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "x64")
        own = f"@node-llama-cpp/linux-{machine}@{version}"
        npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
        npm += [f"node-llama-cpp@{version}", own]
        try:
            subprocess.run(npm, cwd=NODE, check=True, timeout=INSTALL_SECONDS_MAX)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"node-llama-cpp cannot be installed from npm here: {error}")
            return None
    shutil.copy(HERE / "llama.mjs", NODE)
    models = sorted(path.parent for path in pathlib.Path(folder).glob("*/model.gguf"))
    return subprocess.run(["node", "llama.mjs", *models], cwd=NODE).returncode


def main():
    if "TIDEGATE_TEXT_INSIDE" not in os.environ:
        enter_environment()
    if sys.argv[1:] == ["--models"]:
        write_models()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_models(folder)
        llama = ask_llama(folder)
        if llama is None:
            print("llama.cpp cannot be had here: the decoders are compared with numpy only")
        elif llama != 0:
            return 1
        cargo = ["cargo", "test", "--locked", "--workspace", "--features", ALL_FEATURES]
        cargo += ["--test", "text", "--", "--nocapture", "of_the_reference"]
        os.environ["TIDEGATE_TEXT_MODELS"] = folder
        return subprocess.run(cargo, cwd=WORKSPACE, timeout=CARGO_SECONDS_MAX).returncode


if __name__ == "__main__":
    sys.exit(main())
