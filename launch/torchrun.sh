#!/usr/bin/env bash
# One experiment over NODES machines with DEVICES processes each, by torchrun. Run the same line on every machine:
#
#   NODES=2 DEVICES=8 HEAD=first-machine launch/torchrun.sh ce-8resp paper-70b [--any.option value ...]
#
# (a scale of one node needs a larger update on two, or half the GPUs have no problem: paper-8b --data.batch_size 128)
#
# The runs folder, the model and the data must be the same path on all machines; MLFLOW_TRACKING_URI a server, or a
# file that all see. Stop it when you like, on one machine: SIGUSR1, SIGTERM or Ctrl-C to torchrun reach every process, which
# finishes its update and saves (five minutes at most), and the same lines go on where it was. torchrun itself ends with
# status 1 then, and says which signal it got; the run's summary.json says KILLED.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
  echo "error: $1" >&2
  exit 2
}

[[ $# -ge 2 ]] || refuse "usage: [NODES=1] [DEVICES=8] [HEAD=localhost] [PORT=29500] $0 NAME SCALE [OPTIONS]"
name=$1 scale=$2
shift 2
nodes=${NODES:-1} devices=${DEVICES:-8} port=${PORT:-29500}
for number in "NODES=$nodes" "DEVICES=$devices" "PORT=$port"; do
  [[ $number =~ =[1-9][0-9]*$ ]] || refuse "$number is no number of at least 1"
done
[[ $nodes -eq 1 || -n ${HEAD:-} ]] || refuse "NODES=$nodes without HEAD: name the first of them, the same on all"
[[ ${HEAD:-} != *:* ]] || refuse "HEAD=$HEAD names a port as well: HEAD=${HEAD%%:*} PORT=${HEAD##*:}"

# one thread a process unless told otherwise: processes that share cores and spin are many times slower
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# torchrun's own answers to a signal are to leave its processes behind (USR1), or to kill them after half a minute
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 300 \
  --nnodes "$nodes" --nproc-per-node "$devices" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:$port" --rdzv-id "$name-$scale" \
  -m lit_prm exp "$name" --scale "$scale" --trainer.devices "$devices" --trainer.num_nodes "$nodes" "$@"
