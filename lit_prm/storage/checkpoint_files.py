"""Reads checkpoint files: tensors and plain values alone, never other objects, and no file with a wrong byte."""

from __future__ import annotations

import re
import zipfile
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from lit_prm.storage.schemas import refuse_damaged

REMEDY = "restore it from a copy, or remove it and train again from the start"


def read_checkpoint(file: str | Path, *, mmap: bool = True) -> dict[str, Any]:
    """The content of a file that ``torch.save`` wrote.

    With ``mmap`` the tensors stay in the file until they are used. Raises ValueError if a byte differs from the file's
    own checksums, if the file cannot be read, or if it holds objects other than tensors and plain values: these could
    run code.
    """
    try:
        state = Path(file).stat()
        damaged = _damaged(str(file), state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        content = None if damaged else torch.load(file, map_location="cpu", mmap=mmap, weights_only=True)
    except (PermissionError, FileNotFoundError):
        raise
    except UnpicklingError as error:
        if (found := re.search(r"GLOBAL (\S+)|(?<=unrecognized )(.*)|Can only .*", str(error))) is None:
            damaged = str(error).splitlines()[-1].strip()[:200]
        else:
            raise ValueError(
                f"{file} holds objects that are neither tensors nor plain values ({found[0]}). Reading them could run "
                "code, so the file is not read. Save the checkpoint again without them."
            ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError) as error:
        damaged = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if damaged:
        refuse_damaged(file, damaged, REMEDY)
    if not isinstance(content, dict):
        refuse_damaged(file, f"it holds {type(content).__name__}, not a dict", REMEDY)
    return content


@lru_cache(maxsize=64)
def _damaged(file: str, *unchanged: int) -> str:
    """Why the file's bytes are not those that were written; empty if they are. ``unchanged`` makes the cache notice."""
    if not zipfile.is_zipfile(file):
        return "it is no zip file, as torch has written since 1.6" if Path(file).stat().st_size else "it is empty"
    with zipfile.ZipFile(file) as archive:
        wrong = archive.testzip()
    return f"the checksum of {wrong} is wrong" if wrong else ""
