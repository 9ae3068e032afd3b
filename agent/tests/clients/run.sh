#!/usr/bin/env bash
# The local API against the clients that its users have: tritonclient (HTTP and gRPC) and kserve's,
# from PyPI, every call of theirs that applies.
#
#   agent/tests/clients/run.sh
#
# Wants cargo and python3 with venv. Ends with status 77 where the packages cannot be had.
# $TIDEGATE_CLIENTS_VENV: an environment to use, and to make if it is not there; otherwise one is made
# and thrown away.
set -uo pipefail
cd "$(dirname "$0")/../../.."

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

venv=${TIDEGATE_CLIENTS_VENV:-$work/venv}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv" || { echo "python3 has no venv here"; exit 77; }
fi
"$venv/bin/pip" install -q --disable-pip-version-check -r agent/tests/clients/requirements.txt ||
  { echo "tritonclient and kserve cannot be installed here"; exit 77; }

features=${TIDEGATE_FEATURES:-tidegate-agent/candle,tidegate-agent/grpc,tidegate-agent/onnxruntime}
cargo build --locked --workspace --features "$features" --example clients || exit 1
target=${CARGO_TARGET_DIR:-target}

# It ends with its input, so it lasts no longer than this script.
mkfifo "$work/input"
"$target/debug/examples/clients" <"$work/input" >"$work/addresses" &
server=$!
exec 3>"$work/input"
for _ in $(seq 300); do
  [ -s "$work/addresses" ] && break
  kill -0 "$server" 2>/dev/null || { echo "the server did not start"; exit 1; }
  sleep 0.1
done
addresses=$(head -n 1 "$work/addresses")
echo "$addresses"

failed=0
for client in http_client grpc_client kserve_client; do
  timeout 180 "$venv/bin/python" "agent/tests/clients/$client.py" "$addresses" || failed=1
done
exec 3>&-
exit $failed
