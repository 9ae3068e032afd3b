#!/usr/bin/env python3
"""Tidegate's agent beside other servers, and its engines beside ONNX Runtime: same ONNX files, one
client, one connection that is kept. Prints tables in Markdown.

    bench/run.py                       everything; under 8 minutes once all is built and installed
    bench/run.py engines overhead      some parts: servers, engines, overhead, memory, sizes
    bench/run.py --work DIR            where virtual environments, models and results are kept
    bench/run.py --profile fast        another build of the agent: release, edge or fast

What was installed or made before is used again. A server that cannot be installed or does not start
has a line that says so. Results are kept in WORK/results.json, so a part can be run again alone.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SERVED = ["iris", "digits", "cnn96"]
ALONE = ["digits", "mlp", "cnn28", "cnn96", "lstm", "transformer", "mobilenet", "forest", "boosting"]
PARTS = ["servers", "engines", "overhead", "memory", "sizes"]
PACKAGES = {
    "models": ["onnx", "onnxruntime", "numpy", "scikit-learn", "skl2onnx"],
    "mlserver": ["mlserver==1.7.1", "onnxruntime", "numpy"],
    "kserve": ["kserve", "onnxruntime", "numpy"],
    "mlflow": ["mlflow", "onnx", "onnxruntime"],
}
INSTALL_MAX, BUILD_MAX, READY_MAX = 900, 3600, 60


class Trouble(Exception):
    """Something that a line of the table can say."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def sh(*command, timeout, **more):
    """Runs a program; its output, or Trouble with its last words."""
    try:
        done = subprocess.run([str(part) for part in command], timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{Path(str(command[0])).name}: more than {timeout} s") from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Trouble(f"{Path(str(command[0])).name}: {words[-1] if words else done.returncode}")
    return done.stdout


class Bench:
    def __init__(self, arguments):
        self.work, self.seconds = arguments.work, arguments.seconds
        self.profile, self.programs = arguments.profile, arguments.programs
        self.work.mkdir(parents=True, exist_ok=True)
        self.results_file = self.work / "results.json"
        self.results = {}
        if self.results_file.exists():
            self.results = json.loads(self.results_file.read_text())

    def keep(self, part, value):
        self.results[part] = value
        self.results_file.write_text(json.dumps(self.results, indent=1))

    # What must be there first.

    def python(self, name):
        """The interpreter of a virtual environment with the packages of `name`."""
        folder = self.work / f"bench-{name}"
        done = folder / ".ok"
        if not done.exists():
            say(f"installing {' '.join(PACKAGES[name])}")
            shutil.rmtree(folder, ignore_errors=True)
            sh(sys.executable, "-m", "venv", folder, timeout=120)
            sh(folder / "bin/pip", "install", "-q", *PACKAGES[name], timeout=INSTALL_MAX)
            done.touch()
        return folder / "bin/python"

    def models(self):
        folder = self.work / "models"
        if not (folder / ".ok").exists():
            say("making the models")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            sh(self.python("models"), HERE / "models.py", folder, ROOT / "examples", timeout=300)
            (folder / ".ok").touch()
        return folder

    def target(self):
        return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

    def built(self, profile=None):
        """The folder with the programs of a profile, built now if need be."""
        profile = profile or self.profile
        say(f"building with profile {profile}")
        environment = dict(os.environ)
        if profile == "fast" and os.uname().machine == "x86_64":
            environment["RUSTFLAGS"] = "-C target-cpu=x86-64-v3"
        features = os.environ.get("BENCH_FEATURES", "")
        sh("cargo", "build", "--locked", "--profile", profile, "-p", "tidegate-agent", "-p",
           "tidegate-bench", "-p", "tidegate-controller", "--bins",
           *(["--features", features] if features else []),
           cwd=ROOT, env=environment, timeout=BUILD_MAX)
        return self.target() / profile

    def packed(self, name):
        """What devices get of a model; packed anew by the present build."""
        folder = self.work / "packed" / self.profile / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        sh(self.programs / "tidegate", "model", "pack", self.models() / name, folder, timeout=120)
        return folder

    # Servers.

    def start(self, command, ready, environment=None, cwd=None):
        """Starts a server; itself and the milliseconds until it was ready."""
        log = open(self.work / "server.log", "wb")
        begun = time.perf_counter()
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=cwd,
                                  start_new_session=True, env={**os.environ, **(environment or {})})
        while time.perf_counter() - begun < READY_MAX:
            if server.poll() is not None:
                break
            try:
                with urllib.request.urlopen(ready, timeout=1) as answer:
                    if answer.status == 200:
                        return server, (time.perf_counter() - begun) * 1e3
            except OSError:
                time.sleep(0.001)
        stop(server)
        words = (self.work / "server.log").read_text(errors="replace").strip().splitlines()
        raise Trouble(f"it does not start: {words[-1] if words else 'no words'}")

    def load(self, port, path, body, *more):
        figures = sh(self.programs / "load", f"127.0.0.1:{port}", path, body, "--seconds",
                     self.seconds, *more, timeout=60 + 3 * self.seconds)
        return json.loads(figures)

    def questions(self):
        """The bodies of one row each: Open Inference Protocol, and MLflow's own."""
        code = """
import json, sys, numpy
models, work = sys.argv[1], sys.argv[2]
for name in sys.argv[3:]:
    golden = numpy.load(f"{models}/{name}/golden.npz")
    key = next(key for key in golden if key.startswith("input."))
    x, field = golden[key][:1], key.removeprefix("input.")
    data = [float(value) for value in x.ravel()]
    tensor = {"name": field, "shape": list(x.shape), "datatype": "FP32", "data": data}
    open(f"{work}/{name}.v2.json", "w").write(json.dumps({"inputs": [tensor]}))
    open(f"{work}/{name}.mlflow.json", "w").write(json.dumps({"inputs": {field: x.tolist()}}))
"""
        sh(self.python("models"), "-c", code, self.models(), self.work, *SERVED, timeout=60)

    def tidegate(self, *names):
        port = free_port()
        packed = [part for name in names for part in ("--serve", self.packed(name))]
        command = [self.programs / "tidegate-agent", *packed, "--listen", f"127.0.0.1:{port}"]
        ready = f"http://127.0.0.1:{port}/v2/health/ready"
        # The first start measures what is faster on this machine; devices do that once.
        stop(self.start(command, ready)[0])
        return (*self.start(command, ready), port)

    def mlserver(self, *names):
        python, port, folder = self.python("mlserver"), free_port(), self.work / "mlserver-models"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(HERE / "peers/mlserver_onnx.py", folder)
        # In one process: with workers of its own MLServer is slower for one client.
        (folder / "settings.json").write_text(json.dumps({
            "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
            "host": "127.0.0.1", "parallel_workers": 0, "debug": False}))
        for name in names:
            (folder / name).mkdir()
            (folder / name / "model-settings.json").write_text(json.dumps({
                "name": name, "implementation": "mlserver_onnx.OnnxModel",
                "parameters": {"uri": str(self.models() / name / "model.onnx")}}))
        command = [python.parent / "mlserver", "start", folder]
        ready = f"http://127.0.0.1:{port}/v2/models/{names[0]}/ready"
        return (*self.start(command, ready, {"PYTHONPATH": str(folder)}, folder), port)

    def kserve(self, *names):
        python, port = self.python("kserve"), free_port()
        models = [f"{name}={self.models() / name / 'model.onnx'}" for name in names]
        command = [python, HERE / "peers/kserve_onnx.py", *models, "--http_port", port]
        return (*self.start(command, f"http://127.0.0.1:{port}/v2/models/{names[0]}/ready"), port)

    def mlflow(self, name):
        python, port, folder = self.python("mlflow"), free_port(), self.work / f"mlflow-{name}"
        if not folder.exists():
            sh(python, HERE / "peers/mlflow_model.py", self.models() / name / "model.onnx", folder,
               timeout=120)
        command = [python.parent / "mlflow", "models", "serve", "-m", folder, "-p", port, "-h",
                   "127.0.0.1", "--env-manager", "local"]
        environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "1"}
        return (*self.start(command, f"http://127.0.0.1:{port}/ping", environment), port)

    # Parts.

    def part_servers(self):
        self.questions()
        rows = []
        kinds = [("tidegate-agent", self.tidegate), ("MLServer 1.7.1 + ONNX Runtime", self.mlserver),
                 ("KServe SDK + ONNX Runtime", self.kserve), ("mlflow models serve", self.mlflow)]
        for name, start in kinds:
            for model in SERVED:
                say(f"{name}: {model}")
                try:
                    rows.append({"server": name, "model": model, **self.served(name, start, model)})
                except (Trouble, OSError) as trouble:
                    rows.append({"server": name, "model": model, "trouble": str(trouble)})
                self.keep("servers", rows)

    def served(self, name, start, model):
        server, ready_ms, port = start(model)
        try:
            flow = name.startswith("mlflow")
            path = "/invocations" if flow else f"/v2/models/{model}/infer"
            body = self.work / f"{model}.{'mlflow' if flow else 'v2'}.json"
            figures = self.load(port, path, body)
            return {**figures, "ready_ms": ready_ms, "rss_mib": resident_mib(server.pid)}
        finally:
            stop(server)

    def part_engines(self):
        packed, failed = [], {}
        for name in ALONE:
            try:
                packed.append(self.packed(name))
            except Trouble as trouble:
                failed[name] = str(trouble)
        own = sh(self.programs / "engines", *packed, "--seconds", min(self.seconds, 1), timeout=120)
        own = {figures["model"]: figures for figures in map(json.loads, own.splitlines())}
        folders = [self.models() / name for name in ALONE]
        other = sh(self.python("models"), HERE / "peers/onnxruntime_alone.py", min(self.seconds, 1),
                   *folders, timeout=120)
        other = {figures["model"]: figures for figures in map(json.loads, other.splitlines())}
        self.keep("engines", [{"model": name, "own": own.get(name), "other": other.get(name),
                               "trouble": failed.get(name)} for name in ALONE])

    def part_overhead(self):
        self.questions()
        packed = self.packed("digits")
        engine = json.loads(sh(self.programs / "engines", packed, timeout=60))
        server, _, port = self.tidegate("digits")
        try:
            http = self.load(port, "/v2/models/digits/infer", self.work / "digits.v2.json")
        finally:
            stop(server)
        self.keep("overhead", {"engine_us": engine["p50_us"], "http_us": http["p50_us"]})

    def part_memory(self):
        server, ready_ms, port = self.tidegate("mobilenet")
        try:
            time.sleep(0.5)
            self.keep("memory", {"rss_mib": resident_mib(server.pid), "ready_ms": ready_ms})
        finally:
            stop(server)

    def part_sizes(self):
        sizes = {}
        for profile in ("edge", "fast"):
            for features in ("", "--no-default-features"):
                environment = dict(os.environ)
                if profile == "fast" and os.uname().machine == "x86_64":
                    environment["RUSTFLAGS"] = "-C target-cpu=x86-64-v3"
                say(f"building with profile {profile} {features}")
                sh("cargo", "build", "--locked", "--profile", profile, "-p", "tidegate-agent",
                   "--bin", "tidegate-agent", *features.split(), cwd=ROOT, env=environment,
                   timeout=BUILD_MAX)
                program = self.target() / profile / "tidegate-agent"
                sizes[f"{profile}{' without ONNX' if features else ''}"] = program.stat().st_size
        self.keep("sizes", sizes)

    def run(self, parts):
        if set(parts) - {"sizes"} and not self.programs:
            self.programs = self.built()
        for part in parts:
            try:
                getattr(self, f"part_{part}")()
            except (Trouble, OSError) as trouble:
                say(f"{part}: {trouble}")
                self.keep(part, {"trouble": str(trouble)})


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def stop(server):
    """Ends a server and what it started, which has its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def resident_mib(pid):
    """Resident memory of a process and all that it started."""
    total, group = 0.0, os.getpgid(pid)
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(status.parent.name)) == group:
                lines = status.read_text().splitlines()
                rss = next((line for line in lines if line.startswith("VmRSS:")), None)
                total += int(rss.split()[1]) / 1024 if rss else 0
        except (OSError, ValueError):
            continue  # It ended meanwhile.
    return total


# Tables.

def table(head, rows):
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def show_servers(rows):
    if isinstance(rows, dict):
        print(f"\nservers: {rows['trouble']}")
        return
    rows = [row for row in rows if row["model"] in SERVED]
    lines, own = [], {row["model"]: row for row in rows if row["server"] == "tidegate-agent"}
    for row in sorted(rows, key=lambda row: SERVED.index(row["model"])):
        if "trouble" in row:
            lines.append([row["model"], row["server"], row["trouble"], *[""] * 5])
            continue
        mine = own.get(row["model"], {})
        times = mine.get("per_second", 0) / row["per_second"]
        lines.append([row["model"], row["server"], f"{row['p50_us'] / 1e3:.3f}",
                      f"{row['p99_us'] / 1e3:.3f}", f"{row['per_second']:,.0f}",
                      f"{row['rss_mib']:.0f}", f"{row['ready_ms']:,.0f}",
                      f"{times:.1f} × the requests, {mine.get('rss_mib', 0) / row['rss_mib']:.2f} × "
                      "the memory" if row is not mine and mine.get("rss_mib") else ""])
    table(["model", "server", "p50 ms", "p99 ms", "requests/s", "resident MiB", "ready ms",
           "tidegate-agent has"], lines)


def show_engines(rows):
    if isinstance(rows, dict):
        print(f"\nengines: {rows['trouble']}")
        return
    lines = []
    for row in rows:
        own, other = row["own"], row["other"]
        if not own or not other:
            lines.append([row["model"], row["trouble"] or "not measured", *[""] * 6])
            continue
        each = lambda figures: f"{figures['rows_p50_us'] / 8:,.1f}"
        lines.append([row["model"], own["engine"], f"{own['p50_us']:,.1f}",
                      f"{other['p50_us']:,.1f}", f"{own['p50_us'] / other['p50_us']:.2f}",
                      each(own), each(other), f"{own['load_ms']}"])
    table(["model", "engine", "one row µs", "ONNX Runtime µs", "ratio", "µs a row of 8",
           "ONNX Runtime's", "load ms"], lines)


def show(results):
    machine = f"{os.uname().machine}, {os.cpu_count()} processors"
    print(f"{machine}, profile {results.get('profile')}")
    if "servers" in results:
        show_servers(results["servers"])
    if "engines" in results:
        show_engines(results["engines"])
    for part in ("overhead", "memory", "sizes"):
        found = results.get(part)
        if not found:
            continue
        if "trouble" in found:
            print(f"\n{part}: {found['trouble']}")
        elif part == "overhead":
            print(f"\nHTTP, digits: p50 {found['http_us']:.1f} µs, of which the engine "
                  f"{found['engine_us']:.1f}: overhead {found['http_us'] - found['engine_us']:.1f} µs")
        elif part == "memory":
            print(f"\nMobileNetV2 loaded: {found['rss_mib']:.1f} MiB resident, ready after "
                  f"{found['ready_ms']:.0f} ms")
        else:
            table(["build", "bytes"], [[name, f"{size:,}"] for name, size in found.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/tidegate-bench")
    parser.add_argument("--profile", default="release", choices=["release", "edge", "fast"])
    parser.add_argument("--programs", type=Path, help="a folder with the programs, built before")
    parser.add_argument("--seconds", type=float, default=3, help="for one measurement")
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}, only {', '.join(PARTS)}")
    arguments.work = arguments.work.resolve()
    arguments.programs = arguments.programs and arguments.programs.resolve()
    bench = Bench(arguments)
    bench.keep("profile", arguments.profile)
    # Sizes are four builds, so only where asked for.
    bench.run(arguments.parts or [part for part in PARTS if part != "sizes"])
    show(bench.results)


if __name__ == "__main__":
    main()
