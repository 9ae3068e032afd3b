#!/usr/bin/env bash
# Drives the shared TUF workflow with repositories of python-tuf; see README.md beside this file.
#
#   run.sh [PART OF A CASE'S NAME]
#
# TUF_VENV         where the Python environment is (made if it is not there)
# TUF_CONFORMANCE  a checkout of the public suite, which is run as well
#
# Exit status: 0 all is well, 1 it is not, 77 it cannot run here, with the reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."

target=${CARGO_TARGET_DIR:-target}
venv=${TUF_VENV:-$target/tuf-venv}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

cannot() { echo "the TUF conformance check cannot run here: $*"; exit 77; }

# install PACKAGE...: into the environment; needs no network if they are there.
install() {
  local log
  log=$(mktemp)
  if ! timeout 300 "$venv/bin/python" -m pip install -q "$@" >"$log" 2>&1; then
    tail -n 3 "$log"
    rm -f "$log"
    cannot "the package index cannot be reached, or does not have what is needed"
  fi
  rm -f "$log"
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  cannot "it needs Python 3.10 or newer"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" >/dev/null 2>&1 ||
  { rm -rf "$venv"; cannot "python3 -m venv failed (Debian: apt-get install python3-venv)"; }
install -r "$here/requirements.txt"

cargo build --locked --quiet -p tidegate-trust --example tuf-client
client=$(realpath "$target/debug/examples/tuf-client")
"$venv/bin/python" "$here/check.py" "$client" "$@"

[ -n "${TUF_CONFORMANCE:-}" ] || exit 0
command -v faketime >/dev/null ||
  { echo "the public suite needs the program faketime (Debian: apt-get install faketime)"; exit 1; }
install pytest==9.1.1
# The suite looks for the expected failures beside the program.
beside=$(mktemp -d)
trap 'rm -rf "$beside"' EXIT
ln -s "$client" "$beside/tuf-client"
ln -s "$here/tuf-client.xfails" "$beside/tuf-client.xfails"
suite=$(realpath "$TUF_CONFORMANCE")
PYTHONPATH="$suite" "$venv/bin/python" -m pytest -q -p no:cacheprovider --rootdir "$suite" \
  "$suite/tuf_conformance" --entrypoint "$beside/tuf-client"
