#!/usr/bin/env bash
# Builds firmware that verifies a release and a directive on the reduced path (trust-size/), runs it
# on an emulated Cortex-M4F and prints what it takes: flash, static memory, peak heap and stack.
#
#   TIDEGATE_FLASH_MAX, TIDEGATE_HEAP_MAX, TIDEGATE_STACK_MAX   bytes beyond which it fails
#
# Exit status: 0 measured, 1 it does not verify or is larger than that, 77 it cannot run here (no
# qemu-system-arm, no target, no python3).
set -euo pipefail
cd "$(dirname "$0")/trust-size"

target=thumbv7em-none-eabihf
# What it took when this was written, and some room: growth is noticed, not forbidden.
flash_max=${TIDEGATE_FLASH_MAX:-112640} heap_max=${TIDEGATE_HEAP_MAX:-9216}
stack_max=${TIDEGATE_STACK_MAX:-17920}

qemu=$(command -v qemu-system-arm || true)
if [ -z "$qemu" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (timeout 300 apt-get install -qy --no-install-recommends qemu-system-arm >/dev/null 2>&1) || true
  qemu=$(command -v qemu-system-arm || true)
fi
[ -n "$qemu" ] || { echo "qemu-system-arm is missing (Debian package qemu-system-arm)"; exit 77; }

command -v python3 >/dev/null || { echo "python3 is missing, which reads the sections"; exit 77; }

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; }
if ! has_target && command -v rustup >/dev/null; then
  timeout 120 rustup target add "$target" >/dev/null 2>&1 || true
fi
has_target || { echo "rustc has no $target (rustup target add $target)"; exit 77; }

# A folder of its own: other flags and another lock file than the workspace's.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../target}/trust-size"
cargo build --quiet --release --locked
program="$CARGO_TARGET_DIR/$target/release/trust-size"

measured=$(timeout 120 "$qemu" -M mps2-an386 -nographic -monitor none -serial none \
  -semihosting-config enable=on,target=native -kernel "$program" 2>&1) ||
  { echo "the firmware refuses what it should verify, or the other way round: $measured"; exit 1; }
value() { awk -v name="$1" '$1 == name {print $2}' <<<"$measured"; }
heap=$(value heap) stack=$(value stack) vectors=$(value vectors) arena=$(value arena)

# Section sizes out of the ELF itself, since binutils for the target may be missing.
read -r code constants initialised zeroed < <(python3 - "$program" <<'PY'
import struct
import sys

elf = open(sys.argv[1], "rb").read()
offset, entry, count, names = struct.unpack_from("<16x16xI10xHHH", elf)
headers = [struct.unpack_from("<10I", elf, offset + entry * n) for n in range(count)]
text = headers[names][4]
sizes = {}
for header in headers:
    start = text + header[0]
    sizes[elf[start : elf.index(b"\0", start)].decode()] = header[5]
print(
    sizes[".vector_table"] + sizes[".text"], sizes[".rodata"], sizes[".data"], sizes[".bss"]
)
PY
)
flash=$((code + constants + initialised - vectors))
printf '%-34s%8d bytes\n' \
  "flash" "$flash" \
  "  code" "$code" \
  "  constants" "$((constants - vectors))" \
  "flash with the five test messages" "$((flash + vectors))" \
  "static memory besides the heap" "$((initialised + zeroed - arena))" \
  "heap, peak" "$heap" \
  "stack, peak" "$stack"

status=0
over() {
  if [ "$2" -gt "$3" ]; then
    echo "$1: $2 bytes are more than $3"
    status=1
  fi
}
over flash "$flash" "$flash_max"
over heap "$heap" "$heap_max"
over stack "$stack" "$stack_max"
exit $status
