"""Which folders are versions, and what becomes of a broken one."""

from __future__ import annotations

import gc
import os
import pathlib
import shutil
import weakref

import pytest
from tensorflow_serving.apis import model_pb2

from kdsr_tf.errors import KDSRError
from serving.metrics import Metrics
from serving.versioned_model import VersionedModel


def versioned(folder, **changes):
    return VersionedModel(str(folder), "shop", Metrics("shop"), poll_seconds=3600, **changes)


def look(model):
    """What the watcher does."""
    while model.refresh():
        pass
    return [(status.version, status.state) for status in model.statuses()]


@pytest.fixture
def folder(models, tmp_path):
    shutil.copytree(f"{models}/good/exact", tmp_path / "1")
    return tmp_path


def test_the_memory_of_a_dropped_version_is_given_back_by_the_next_look(folder):
    model = versioned(folder)
    look(model)
    found = model.find(model_pb2.ModelSpec(name="shop"))
    session = next(iter(found._calls.values())).compute._session
    dropped, graph = weakref.ref(found), weakref.ref(session.graph)
    del found
    os.symlink(folder / "1", folder / "2")
    gc.disable()
    try:
        under_way = dropped()
        assert look(model)[0] == (2, "AVAILABLE") and under_way is not None
        look(model)
        assert dropped() is not None
        del under_way
        with pytest.raises(RuntimeError, match="closed"):
            session.run("Const")
        del session
        look(model)
        assert dropped() is None and graph() is None
    finally:
        gc.enable()


IGNORED = (
    "20261129144536123456",
    f"{2**63}",
    "+3",
    "-3",
    "3.0",
    "3e1",
    " 4",
    "\u0663",
    "v5",
    "0x6",
)


def test_folders_are_versions_where_tf_serving_has_them_as_such(folder):
    for name in (*IGNORED, "007"):
        os.symlink(folder / "1", folder / name)
    model = versioned(folder, num_versions=9)
    assert look(model) == [(7, "AVAILABLE"), (1, "AVAILABLE")]
    os.symlink(folder / "1", folder / f"{2**63 - 1}")
    assert look(model)[0] == (2**63 - 1, "AVAILABLE")
    for name in ("007", f"{2**63 - 1}"):
        os.remove(folder / name)
    assert look(model) == [(2**63 - 1, "END"), (7, "END"), (1, "AVAILABLE")]


def test_the_shortest_name_of_a_number_is_its_folder(folder):
    for name in ("0", "00", "01"):
        os.symlink(folder / "1", folder / name)
    found = versioned(folder)._on_disk()
    assert found == {0: str(folder / "0"), 1: str(folder / "1")}


def test_a_version_repaired_in_place_is_tried_again(folder):
    """Its graph, by whose time versions were once told apart, stays as it was."""
    shutil.copytree(folder / "1", folder / "2")
    [data] = pathlib.Path(folder / "2" / "variables").glob("*.data-*")
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    model = versioned(folder)
    assert look(model) == [(2, "END"), (1, "AVAILABLE")]
    assert not model.refresh()  # nothing has changed
    data.write_bytes(whole)
    assert look(model) == [(2, "AVAILABLE"), (1, "END")]
    assert [status.error for status in model.statuses()] == ["", ""]


def test_without_a_version_the_reasons_are_said(folder):
    (folder / "1" / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(KDSRError, match=r"no version that can be loaded\n  1: .*\n.*kdsr export"):
        versioned(folder).start()
