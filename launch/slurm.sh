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
# Runs one experiment on several nodes. When the job's time is up, the run resumes by itself in a new job:
#
#   sbatch [--nodes=2] launch/slurm.sh ce-8resp paper-70b [--any.option value ...]
#
# (A scale for one node needs a larger update on two nodes, or half of the GPUs get no problem: paper-8b --data.batch_size 128)
#
# Ten minutes before the end SLURM sends SIGUSR1 to every process. The run finishes its update, saves a checkpoint and ends with
# status 138 (128 + SIGUSR1), and this script queues the same job again. Any other status ends the job, so errors are not repeated.
# Each task uses one GPU, as Lightning requires; Lightning reads the machines from SLURM's variables. All nodes must see the
# working directory, and the file or server of MLFLOW_TRACKING_URI.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: sbatch launch/slurm.sh NAME SCALE}"
[[ $# -ge 2 ]] || { echo "usage: sbatch launch/slurm.sh NAME SCALE [OPTIONS]" >&2; exit 2; }
name=$1 scale=$2
shift 2

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not inherit this from sbatch
export LIT_PRM_STOPPED="$PWD/.stopped-$SLURM_JOB_ID"  # a run that a signal stops writes its status here
rm -f "$LIT_PRM_STOPPED"
status=0
# A process that ends must not end others, which may still write the run's record; a process that hangs is ended after five minutes.
srun --kill-on-bad-exit=0 --wait=300 "${PYTHON:-.venv/bin/python}" -m lit_prm exp "$name" --scale "$scale" \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "${SLURM_NTASKS_PER_NODE%%(*}" "$@" || status=$?
# srun reports the largest status of all processes, even of a crash while Python exits
[[ -f $LIT_PRM_STOPPED ]] && status=$(<"$LIT_PRM_STOPPED")
rm -f "$LIT_PRM_STOPPED"
if [[ $status -eq 138 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
