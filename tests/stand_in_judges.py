"""Harmless stand-ins for comparisons that never end or misbehave: the guard around the judge is tested with them."""

from __future__ import annotations

import os
import time

SUPERVISE = (  # what a worker runs whose judge obeys the orders below and compares everything else
    "from lit_prm.answers.workers.supervisor import supervise; from tests.stand_in_judges import same; supervise(same)"
)
SPIN, SLEEP, ALLOCATE, FORK, WRITE, EXIT, LEAVE = "spin", "sleep", "allocate", "fork", "write", "exit", "leave"


def same(gold: str, candidate: str) -> bool:
    """Obey the order that the gold answer is, else compare as the judge does."""
    from lit_prm.answers.workers import judge

    if gold == SPIN:
        end = time.process_time() + 60
        while time.process_time() < end:
            pass
    elif gold == SLEEP:
        time.sleep(60)
    elif gold == ALLOCATE:
        bytearray(2 * judge.MEMORY_BYTES)
    elif gold == FORK:
        os.fork() or os._exit(0)
    elif gold == WRITE:
        open(candidate, "w").close()
    elif gold == EXIT:
        os._exit(3)
    elif gold == LEAVE:
        os._exit(0)
    return judge.same(gold, candidate)
