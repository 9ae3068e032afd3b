#!/usr/bin/env bash
# Runs every fuzz target under libFuzzer, one after the other.
#
#   shared/fuzz/run.sh [SECONDS] [TARGET...]     60 seconds each, all targets
#
# Wants `cargo install cargo-fuzz`, and a nightly toolchain if there is one. New inputs are kept
# under $TIDEGATE_FUZZ_WORK (default: the target folder); `corpus/` is only read. Ends with one line
# per target; an input that panics lies under `artifacts/` there, and the exit status is 1.
set -uo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift $(($# > 0))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')

cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 77; }
# Decoders in agent and controller need all that these are built from: built only if asked for.
features_of() {
  case $* in
    *inference* | *tensors* | *bundle*) echo "--features shells" ;;
  esac
}

work=${TIDEGATE_FUZZ_WORK:-${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz/work}
mkdir -p "$work"
# shellcheck disable=SC2046
cargo run -q --manifest-path Cargo.toml --no-default-features $(features_of "${targets[@]}") \
  --example seeds "$work/seeds" || exit 1

export RUSTC_BOOTSTRAP=1
toolchain=()
cargo +nightly --version >/dev/null 2>&1 && toolchain=(+nightly)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
failed=0
report=()
for target in "${targets[@]}"; do
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target" "corpus/$target"
  log=$work/$target.log
  # No code of ours is unsafe: a sanitizer would only be slow.
  # shellcheck disable=SC2046
  cargo "${toolchain[@]}" fuzz run --fuzz-dir fuzz --sanitizer none $(features_of "$target") "$target" \
    "$work/corpus/$target" "corpus/$target" "$work/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$work/artifacts/$target/" -verbosity=1 >"$log" 2>&1
  status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  covered=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
  if [ $status = 0 ]; then verdict=ok; else verdict="FAILED, see $log"; failed=1; fi
  report+=("$(printf '%-10s %4ss %12s executions  %-10s %s' "$target" "$seconds" "${executions:-?}" "$covered" "$verdict")")
  echo "${report[-1]}"
done
exit $failed
