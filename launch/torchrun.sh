#!/usr/bin/env bash
# One experiment over NODES machines with DEVICES processes each, by torchrun. Run the same line on every machine:
#
#   NODES=2 DEVICES=8 HEAD=first-machine launch/torchrun.sh ce-8resp paper-8b [--any.option value ...]
#
# The runs folder, the model and the data must be the same path on all machines; MLFLOW_TRACKING_URI a server, or a
# file that all see. Stop it when you like: the same lines go on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -ge 2 ]] || { echo "usage: [NODES=1] [DEVICES=8] [HEAD=localhost] [PORT=29500] $0 NAME SCALE [OPTIONS]" >&2; exit 2; }
name=$1 scale=$2
shift 2
nodes=${NODES:-1} devices=${DEVICES:-8}

# one thread a process unless told otherwise: processes that share cores and spin are many times slower
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run \
  --nnodes "$nodes" --nproc-per-node "$devices" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:${PORT:-29500}" --rdzv-id "$name-$scale" \
  -m lit_prm exp "$name" --scale "$scale" --trainer.devices "$devices" --trainer.num_nodes "$nodes" "$@"
