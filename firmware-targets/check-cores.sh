#!/usr/bin/env bash
# Compiles the pure cores for a Cortex-M4F without an operating system: whatever reached for a
# clock, a file, a socket or std would fail here.
#
# Exit status: 0 they compile, 1 they do not, 77 the target cannot be had on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

target=thumbv7em-none-eabihf
cores=(-p tidegate-wire -p tidegate-trust -p tidegate-lifecycle -p tidegate-drift -p tidegate-rollout
  -p tidegate-disk -p tidegate-device -p tidegate-control -p tidegate-trees)

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; }

# TIDEGATE_CORES_WITH=debian leaves rustup aside, to try the other way.
if [ "${TIDEGATE_CORES_WITH:-}" = debian ]; then
  has_target() { false; }
elif ! has_target && command -v rustup >/dev/null; then
  timeout 120 rustup target add "$target" >/dev/null 2>&1 || true
fi
if has_target; then
  exec cargo check --locked --target "$target" "${cores[@]}"
fi

# Debian's compiler of the web packages is recent and comes with the library's source. Unpacked, not
# installed: it takes nobody's rustc away.
unpacked="${TMPDIR:-/tmp}/tidegate-rustc-web"
if [ ! -x "$unpacked/usr/bin/rustc" ]; then
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 77
  mkdir -p "$unpacked/debs"
  (
    cd "$unpacked/debs"
    version=$(apt-cache policy rustc-web | awk '/Candidate:/ {print $2}')
    std=$(apt-cache depends "libstd-rust-web-dev=$version" | grep -oE 'libstd-rust-web-[0-9.]+' |
      head -n 1)
    llvm=$(apt-cache depends "$std=$version" | grep -oE 'libllvm[0-9]+' | head -n 1)
    apt-get download "rustc-web=$version" "rust-web-src=$version" "libstd-rust-web-dev=$version" \
      "$std=$version" "$llvm"
    for deb in *.deb; do dpkg -x "$deb" "$unpacked"; done
  ) >&2 || exit 77
  source=$(find "$unpacked/usr/src" -maxdepth 1 -name 'rustc-*' | head -n 1)
  mkdir -p "$unpacked/usr/lib/rustlib/src"
  ln -sfn "$source" "$unpacked/usr/lib/rustlib/src/rust"
fi

export RUSTC="$unpacked/usr/bin/rustc" RUSTC_BOOTSTRAP=1
export LD_LIBRARY_PATH="$unpacked/usr/lib:$unpacked/usr/lib/x86_64-linux-gnu"
exec cargo check -Zbuild-std=core,alloc --target "$target" --target-dir "$unpacked/target" \
  "${cores[@]}"
