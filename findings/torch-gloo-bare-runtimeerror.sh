#!/usr/bin/env bash
# torch 2.13.0, gloo: a collective that fails because a peer has left raises a bare RuntimeError that names no rank.
#
# Expected: torch.distributed.DistBackendError, "raised when a backend error occurs in distributed", or at least its base
#           DistError, so that `except dist.DistError` tells a lost peer from a mistake in the program, and the number
#           of the rank that is missing.
# Seen:     type(error) is RuntimeError, for all_reduce and for barrier, so `except dist.DistError` catches nothing. The
#           text has a file of gloo, an address and a port; two ranks on one machine differ by the port alone, which
#           gloo chose. Whoever wants to say which rank is gone must find that out by other means.
#
# LABEL=+cpu takes the smaller build where the package index has it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "torch==2.13.0${LABEL:-}" numpy==2.4.6
cat > "$folder/leave.py" <<'PY'
import os
import re
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

rank = int(os.fork() == 0)  # the child is rank 1
dist.init_process_group(
    "gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
dist.all_reduce(torch.ones(1))
if rank == 1:
    dist.destroy_process_group()
    os._exit(0)  # it has done its part, and rank 0 thinks that there is more
os.wait()
for work in (lambda: dist.all_reduce(torch.ones(1)), dist.barrier):
    try:
        work()
    except RuntimeError as error:
        print(type(error).__name__, isinstance(error, dist.DistError), bool(re.search(r"\brank\b", str(error))))
os._exit(0)
PY
"$folder/venv/bin/python" -W ignore "$folder/leave.py" "$folder/meet" 2> /dev/null | tee "$folder/seen"
printf 'RuntimeError False False\nRuntimeError False False\n' | diff - "$folder/seen"
