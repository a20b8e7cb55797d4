#!/usr/bin/env bash
#SBATCH --job-name=lit_prm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
# One experiment over several nodes, which goes on by itself in the next job when its time is up:
#
#   sbatch [--nodes=2] launch/slurm.sh ce-8resp paper-70b [--any.option value ...]
#
# (a scale of one node needs a larger update on two, or half the GPUs have no problem: paper-8b --data.batch_size 128)
#
# Ten minutes before the end SLURM sends SIGUSR1 to every process; the run finishes its update, saves and ends with
# status 138 (128 + SIGUSR1), which queues the same job again. Any other status ends the job: a mistake is not repeated.
# One task is one GPU, as Lightning asks; it finds the machines in SLURM's variables. The working directory must be one that
# all nodes see; so must the file or server of MLFLOW_TRACKING_URI.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: sbatch launch/slurm.sh NAME SCALE}"
[[ $# -ge 2 ]] || { echo "usage: sbatch launch/slurm.sh NAME SCALE [OPTIONS]" >&2; exit 2; }
name=$1 scale=$2
shift 2

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it from sbatch
export LIT_PRM_STOPPED="$PWD/.stopped-$SLURM_JOB_ID"  # where a run that a signal stopped leaves its status
rm -f "$LIT_PRM_STOPPED"
status=0
# The first process that ends must not end those that still write the record; one that hangs is ended five minutes later.
srun --kill-on-bad-exit=0 --wait=300 "${PYTHON:-.venv/bin/python}" -m lit_prm exp "$name" --scale "$scale" \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "${SLURM_NTASKS_PER_NODE%%(*}" "$@" || status=$?
# srun tells the largest status of all, a crash while Python ends included
[[ -f $LIT_PRM_STOPPED ]] && status=$(<"$LIT_PRM_STOPPED")
rm -f "$LIT_PRM_STOPPED"
if [[ $status -eq 138 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
