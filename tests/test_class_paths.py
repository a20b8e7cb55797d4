"""A class path names a class; nobody needs an object of it, or its spelling, to know what the class is."""

from __future__ import annotations

import sys

import pytest
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

import callbacks
from lit_prm.models.reference import Reference, Stored
from lit_prm.models.reference.stored import Stored as FromItsFile
from lit_prm.storage.class_paths import class_of, class_path_of, known_names
from lit_prm.storage.run_folder import is_progress


class OwnReference(Stored):
    def __init__(self) -> None:
        raise AssertionError("nobody may instantiate a class to learn what it is")


@pytest.mark.parametrize(
    "path", ["Stored", "lit_prm.models.reference.Stored", "lit_prm.models.reference.stored.Stored"]
)
def test_every_spelling_of_a_path_names_the_same_class(path: str) -> None:
    assert class_of(path, Reference) is Stored is FromItsFile


@pytest.mark.filterwarnings("ignore:lit_prm.reference:FutureWarning")
def test_a_name_from_before_classes_moved_names_the_present_class() -> None:
    try:
        assert class_of("lit_prm.reference.Stored", Reference) is Stored
    finally:
        sys.modules.pop("lit_prm.reference", None)  # its next import warns again


def test_a_class_is_written_by_the_package_that_exports_it() -> None:
    assert class_path_of(Stored) == "lit_prm.models.reference.Stored"
    assert class_path_of(callbacks.Progress) == "callbacks.Progress"
    assert class_path_of(OwnReference) == f"{__name__}.OwnReference"


def test_an_own_subclass_is_known_without_an_object_of_it() -> None:
    assert class_of(class_path_of(OwnReference), Reference) is OwnReference
    assert class_of("OwnReference", Stored) is OwnReference


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("lit_prm.models.reference.Stord", "cannot be imported"),
        ("no_such_package.Stored", "cannot be imported"),
        ("Stord", "cannot be imported"),
        ("lit_prm.models.language_model.load_model", "is not a subclass of Reference"),
        ("collections.OrderedDict", "is not a subclass of Reference"),
    ],
)
def test_a_wrong_path_is_refused_with_the_known_names(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^{path} {reason}.*Give one of .*Frozen.*Stored.*Uniform, or the dotted"):
        class_of(path, Reference)


def test_abstract_and_private_classes_are_no_known_names() -> None:
    assert {"Frozen", "Uniform"} <= set(known_names(Reference))
    assert not any(name.startswith("_") for name in known_names(Reference))


@pytest.mark.parametrize("kind", [callbacks.Progress, TQDMProgressBar])
def test_any_progress_bar_may_differ_between_a_run_and_its_continuation(kind: type[ProgressBar]) -> None:
    assert is_progress({"class_path": class_path_of(kind)})


@pytest.mark.parametrize("path", ["callbacks.BestOfN", "elsewhere.Progress"])
def test_another_callback_is_no_progress_bar(path: str) -> None:
    assert not is_progress({"class_path": path})
