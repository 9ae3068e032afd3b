#!/usr/bin/env bash
# Installs what it needs, runs every check, and ends with a count.
#
#   ./test.sh          everything
#   ./test.sh quick    formatting, lints and the Rust tests only
#
# A check that cannot run on this machine (no package manager, no network) is counted as skipped
# and says why. CARGO_TARGET_DIR is honoured.
set -uo pipefail
cd "$(dirname "$0")"

# What devices leave out unless they need it is built and tested here with everything else, in one
# build: another set of features would compile the engines once more.
features=tidegate-agent/candle,tidegate-agent/grpc,tidegate-agent/onnxruntime
everything=(--workspace --locked --features "$features")

passed=0 failed=0 skipped=0
log=$(mktemp) && trap 'rm -f "$log"' EXIT

say() { printf '\n=== %s\n' "$*"; }

# check NAME COMMAND...: one check; status 77 means that it cannot run here.
check() {
  local name=$1 status
  shift
  say "$name"
  "$@"
  status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) && echo "skipped: $name" ;;
    *) failed=$((failed + 1)) && echo "FAILED ($status): $name" ;;
  esac
}

# The Rust tests, each of which counts.
rust_tests() {
  say "cargo test"
  cargo test "${everything[@]}" --no-fail-fast 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]} counted
  counted=$(awk '/^test result:/ {p += $4; f += $6; i += $8} END {print p + 0, f + 0, i + 0}' "$log")
  read -r p f i <<<"$counted"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
  # A test program that does not compile or dies has no result line.
  if [ "$status" != 0 ] && [ "$f" = 0 ]; then failed=$((failed + 1)); fi
}

# A broker to stand in for ours, an emulated microcontroller, OpenSSL and Python for second opinions.
install_packages() {
  local program missing=0
  for program in mosquitto qemu-system-arm openssl python3; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing=1
  done
  [ "$missing" = 0 ] && python3 -c 'import ensurepip, venv' 2>/dev/null && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 77
  (apt-get update -q && apt-get install -qy --no-install-recommends \
    mosquitto qemu-system-arm openssl python3 python3-venv) >"$log" 2>&1 ||
    { tail -n 5 "$log"; return 77; }
}

# Licences, sources and banned crates need no network; the advisories need their database.
dependencies() {
  if ! cargo deny --version >/dev/null 2>&1; then
    cargo install cargo-deny --locked >"$log" 2>&1 || { tail -n 3 "$log"; return 77; }
  fi
  if timeout 60 cargo deny --locked fetch db >"$log" 2>&1; then
    cargo deny --locked check
  else
    echo "the advisory database cannot be fetched here: licences, bans and sources only"
    cargo deny --locked check licenses bans sources
  fi
}

# The program that the Rust tests have built: its dependencies are optimised in that profile, too.
demo() { "${CARGO_TARGET_DIR:-target}/debug/tidegate" demo "$@"; }

over_mosquitto() {
  local program
  program=$(command -v mosquitto || ls /usr/sbin/mosquitto 2>/dev/null) || return 77
  demo --devices 4 --mosquitto "$program"
}

check "cargo fmt" cargo fmt --all -- --check
check "cargo clippy" cargo clippy "${everything[@]}" --all-targets -- -D warnings
check "cargo clippy, as devices are built" cargo clippy --locked -p tidegate-agent -- -D warnings
check "cargo clippy, without ONNX" \
  cargo clippy --locked -p tidegate-agent --no-default-features -- -D warnings
if [ "${1:-}" != quick ]; then
  check "packages for the tests" install_packages
fi
rust_tests
if [ "${1:-}" != quick ]; then
  check "the pure cores compile for a microcontroller" firmware-targets/check-cores.sh
  check "flash and memory on a microcontroller" firmware-targets/measure-trust.sh
  check "COSE with independent libraries" shared/trust/interop/run.py
  check "the TUF workflow against python-tuf" shared/trust/conformance/run.sh
  check "the inference protocol with its users' clients" agent/tests/clients/run.sh
  check "tree ensembles and scikit-learn against ONNX Runtime" controller/tests/sklearn/run.sh
  check "text models against transformers and llama.cpp" agent/tests/text/oracle/run.py
  check "the engine ONNX Runtime against its own wheel" agent/tests/onnxruntime/run.py
  check "a fleet under virtual time, with faults" shared/sim/run.sh
  check "the simulator notices rules that are broken on purpose" shared/sim/mutations/run.py
  check "the demo, as in the README" demo
  check "the demo over Mosquitto" over_mosquitto
  check "cargo deny" dependencies
fi

printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
