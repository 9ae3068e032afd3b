#!/usr/bin/env bash
# SIGKILL for agents and controller, over and over: the long version of `cargo test --test kill`.
#
#   controller/tests/kill.sh [ROUNDS]     1000 rounds, some ten minutes
#
# A world of its own for every hundred rounds; a failure says the seed that repeats its rounds.
set -uo pipefail
cd "$(dirname "$0")/../.."

left=${1:-1000} done=0
while [ "$left" -gt 0 ]; do
  rounds=$((left < 100 ? left : 100))
  TIDEGATE_KILL_ROUNDS=$rounds timeout $((120 + rounds * 5)) \
    cargo test --locked --workspace --test kill -- --nocapture ||
    { echo "failed after $done rounds"; exit 1; }
  left=$((left - rounds)) done=$((done + rounds))
done
echo "$done rounds"
