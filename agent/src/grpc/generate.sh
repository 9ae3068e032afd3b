#!/usr/bin/env bash
# Makes inference.rs from inference.proto. Only for those who change the .proto: the result is
# committed, so that nobody else needs protoc.
#
#   agent/src/grpc/generate.sh      wants cargo, python3 with venv, and the network
#
# protoc is the one in the Python package grpcio-tools. The versions of prost and tonic are those in
# Cargo.lock.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q grpcio-tools==1.76.0
"$work/venv/bin/python" -m grpc_tools.protoc --proto_path="$here" --include_source_info \
  --descriptor_set_out="$work/inference.bin" "$here/inference.proto"

locked() { grep -A1 "^name = \"$1\"$" "$here/../../../Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p'; }
mkdir -p "$work/generate/src"
cat >"$work/generate/Cargo.toml" <<EOF
[package]
name = "generate"
version = "0.0.0"
edition = "2024"

[dependencies]
prost = "=$(locked prost)"
prost-types = "=$(locked prost)"
tonic-prost-build = "=$(locked tonic-prost)"
EOF
cat >"$work/generate/src/main.rs" <<'EOF'
use prost::Message;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&arguments[1]).unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .out_dir(&arguments[2])
        .compile_fds(prost_types::FileDescriptorSet::decode(&*bytes).unwrap())
        .unwrap();
}
EOF
CARGO_TARGET_DIR="$work/target" cargo run -q --manifest-path "$work/generate/Cargo.toml" -- \
  "$work/inference.bin" "$work"
cp "$work/inference.rs" "$here/inference.rs"
rustfmt --edition 2024 "$here/inference.rs"
wc -l "$here/inference.rs"
