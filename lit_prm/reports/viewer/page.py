"""Writes scored files as one HTML page that needs no network and runs no script but its own."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from markupsafe import Markup

from lit_prm.reports.document import render, source
from lit_prm.reports.viewer.content import Content, index, problem_content, token_scale
from lit_prm.scoring.scored_files import ScoredGroups
from lit_prm.storage.atomic import written_whole

SCRIPTS = ("decode.js", "dom.js", "scale.js", "problems.js", "steps.js", "responses.js", "keys.js", "page.js")


def write_page(path: Path, scored: Sequence[ScoredGroups]) -> None:
    """Write the page of the files; equal files give equal bytes."""
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as page:
        page.writelines(page_parts(scored))


def page_parts(scored: Sequence[ScoredGroups]) -> Iterator[str]:
    """The page in parts. Text of the files is in it as base64 only, in which no HTML or script can begin."""
    style, script = source("viewer/page.css"), '"use strict";\n' + "".join(source(f"viewer/{name}") for name in SCRIPTS)
    rules = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
    rules += "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    own = {"rules": rules, "style": style, "script": script}
    return render("viewer/page.html", blocks=_blocks(scored), **{name: Markup(text) for name, text in own.items()})


def _blocks(scored: Sequence[ScoredGroups]) -> Iterator[tuple[str, str]]:
    """Names and contents of the page's data blocks: the index of all files, then every problem of each."""
    yield "files", packed([index(one) for one in scored])
    for f, one in enumerate(scored):
        tokens = token_scale(one)
        for p, (group, rewards) in enumerate(zip(one.groups, one.rewards, strict=True)):
            yield f"problem-{f}-{p}", packed(problem_content(group, rewards, tokens))


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def packed(content: Content | list[Content]) -> str:
    """JSON in ASCII (a lone surrogate is no UTF-8), deflated as zlib does, in base64."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return b64encode(zlib.compress(text.encode("ascii"), 6)).decode()
