#!/usr/bin/env bash
# Pipelines of every kind from scikit-learn, and ensembles of trees of every kind that ONNX-ML
# knows: the bundle tool must take each, and answer what ONNX Runtime answers.
#
#   controller/tests/sklearn/run.sh
#
# Wants cargo and python3 with venv. Ends with status 77 where the packages cannot be had.
# $TIDEGATE_SKLEARN_VENV: an environment to use, and to make if it is not there; otherwise one is
# made and thrown away.
set -uo pipefail
cd "$(dirname "$0")/../../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

scripts=controller/tests/sklearn
venv=${TIDEGATE_SKLEARN_VENV:-$work/venv}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv" || { echo "python3 has no venv here"; exit 77; }
fi
"$venv/bin/pip" install -q --disable-pip-version-check -r "$scripts/requirements.txt" ||
  { echo "scikit-learn and its exporter cannot be installed here"; exit 77; }

"$venv/bin/python" "$scripts/pipelines.py" "$work/models" || exit 1
"$venv/bin/python" "$scripts/ensembles.py" "$work/models" || exit 1

features=${TIDEGATE_FEATURES:-tidegate-agent/candle,tidegate-agent/grpc,tidegate-agent/onnxruntime}
TIDEGATE_SKLEARN="$work/models" cargo test --locked --workspace --features "$features" \
  --test sklearn -- --nocapture
