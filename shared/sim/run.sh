#!/bin/sh
# Runs every regression and some hundred fresh seeds, in less than two minutes on two cores.
#
#   shared/sim/run.sh [SEEDS [FIRST]]
#
# The first seed is taken from the clock and printed, so that a failure can be replayed:
#   cargo run -p tidegate-sim --release -- --seed S
set -eu
cd "$(dirname "$0")/../.."
seeds=${1:-300}
first=${2:-$(date +%s)}
cargo build --quiet --release -p tidegate-sim
sim="${CARGO_TARGET_DIR:-target}/release/tidegate-sim"
if ls shared/sim/regressions/*.toml >/dev/null 2>&1; then
    "$sim" --replay shared/sim/regressions --quiet
fi
echo "fresh seeds from $first"
exec "$sim" --seeds "$seeds" --from "$first"
