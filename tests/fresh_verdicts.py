"""Fixtures of tests that compare answers: a cache of verdicts of their own, and a guard against slow comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lit_prm.answers import comparison


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("verdicts"))


@pytest.fixture(autouse=True)
def own_verdicts(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older judge found must not answer for this one."""
    monkeypatch.setenv("LIT_PRM_CACHE", cache)


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a comparison leaves the fast paths."""

    def refuse(pairs: Sequence[tuple[str, str]], timeout: float) -> list[bool]:
        raise AssertionError(f"symbolic comparison of {pairs}")

    monkeypatch.setattr(comparison, "symbolically_equal", refuse)
