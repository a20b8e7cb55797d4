#!/usr/bin/env bash
# Runs one experiment on NODES machines with DEVICES processes each, by torchrun. Run the same line on every machine:
#
#   NODES=2 DEVICES=8 HEAD=first-machine launch/torchrun.sh ce-8resp paper-70b [--any.option value ...]
#
# (A scale for one node needs a larger update on two nodes, or half of the GPUs get no problem: paper-8b --data.batch_size 128)
#
# The runs folder, the model and the data must have the same paths on all machines; MLFLOW_TRACKING_URI must name a server, or a
# file that all machines see. Stop the run when you like, on one machine: torchrun passes SIGUSR1, SIGTERM and Ctrl-C to every
# process; these finish the update and save (within five minutes). The same lines resume the run. torchrun itself then ends with
# status 1 and prints the signal; the run's summary.json says KILLED.
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
  [[ $number =~ =[1-9][0-9]*$ ]] || refuse "$number: give a whole number of at least 1"
done
[[ $nodes -eq 1 || -n ${HEAD:-} ]] || refuse "NODES=$nodes needs HEAD: the name of the first machine, the same on all machines"
[[ ${HEAD:-} != *:* ]] || refuse "HEAD=$HEAD contains a port; give HEAD=${HEAD%%:*} PORT=${HEAD##*:}"

# one thread per process by default: spinning threads of processes that share cores are many times slower
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# By default torchrun leaves its processes behind (USR1) or kills them after half a minute.
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 300 \
  --nnodes "$nodes" --nproc-per-node "$devices" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:$port" --rdzv-id "$name-$scale" \
  -m lit_prm exp "$name" --scale "$scale" --trainer.devices "$devices" --trainer.num_nodes "$nodes" "$@"
