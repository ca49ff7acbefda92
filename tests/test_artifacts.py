"""The commit mark: whole or not at all, on a disk, in memory and after `kill -9`."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import fsspec
import pytest

from kdsr_tf import artifacts, stage_frame
from kdsr_tf.artifacts import Manifest
from kdsr_tf.errors import MissingArtifactError, StaleArtifactError


def _manifest(**changes) -> Manifest:
    return Manifest(**({"artifact": "features/text", "fingerprint": "a" * 16} | changes))


def _put(content: bytes, *path: str) -> None:
    with fsspec.open(artifacts.join(*path), "wb", auto_mkdir=True) as file:
        file.write(content)


def _write(directory: str, content: bytes, **changes) -> None:
    with artifacts.committing(directory, _manifest(**changes)) as target:
        _put(content, target, "part", "data.bin")


def _read(directory: str) -> bytes:
    with fsspec.open(artifacts.join(directory, "part", "data.bin"), "rb") as file:
        return file.read()


@pytest.fixture(params=["disk", "memory"])
def directory(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path / "work" / "features" / "text")
    root = f"/{tmp_path.name}"
    request.addfinalizer(lambda: fsspec.filesystem("memory").rm(root, recursive=True))
    return f"memory://{root}/features/text"


def _names(directory: str) -> list[str]:
    filesystem, local = fsspec.core.url_to_fs(directory)
    parent = local.rsplit("/", 1)[0]
    return sorted(name.rstrip("/").rsplit("/", 1)[1] for name in filesystem.ls(parent, False))


def test_committed_directory_reads_back(directory):
    manifest = _manifest(inputs={"sequences": "b" * 16}, config={"seed": 3})
    with artifacts.committing(directory, manifest) as target:
        assert artifacts.find_manifest(target) is None
        assert artifacts.find_manifest(directory) is None
        _put(b"1", target, "data.bin")
        manifest.counts["items"] = 1
    found = artifacts.read_manifest(directory, written_by="encode")
    assert (found.counts, found.inputs, found.config) == (
        {"items": 1},
        {"sequences": "b" * 16},
        {"seed": 3},
    )
    assert found.seconds >= 0
    assert "python" in found.versions
    assert _names(directory) == ["text"]


def test_a_second_write_replaces_the_first_whole(directory):
    with artifacts.committing(directory, _manifest()) as target:
        _put(b"old", target, "old.bin")
    _write(directory, b"new", fingerprint="c" * 16)
    assert _read(directory) == b"new"
    assert not artifacts.exists(artifacts.join(directory, "old.bin"))
    assert artifacts.find_manifest(directory).fingerprint == "c" * 16


def test_an_error_inside_leaves_the_old_directory_alone(directory):
    _write(directory, b"old")
    with (
        pytest.raises(RuntimeError, match="stop"),
        artifacts.committing(directory, _manifest()) as target,
    ):
        _put(b"half", target, "half.bin")
        raise RuntimeError("stop")
    assert _read(directory) == b"old"
    assert _names(directory) == ["text"]


def test_readers_refuse_what_was_never_committed(tmp_path):
    with pytest.raises(MissingArtifactError, match=r"does not exist\. Run `kdsr encode`"):
        artifacts.read_manifest(str(tmp_path / "absent"), written_by="encode")
    (tmp_path / "half").mkdir()
    with pytest.raises(MissingArtifactError, match="has no manifest"):
        artifacts.read_manifest(str(tmp_path / "half"), written_by="encode")


_KILLED_WRITER = """
import os, signal, sys
from kdsr_tf import artifacts
from kdsr_tf.artifacts import Manifest
manifest = Manifest(artifact="sequences", fingerprint="d" * 16)
with artifacts.committing(sys.argv[1], manifest) as target:
    with open(os.path.join(target, "half.bin"), "wb") as file:
        file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("had_old", [False, True])
def test_kill_in_the_middle_of_a_write_leaves_nothing_new(tmp_path, had_old):
    directory = str(tmp_path / "sequences")
    if had_old:
        _write(directory, b"old")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.run([sys.executable, "-c", _KILLED_WRITER, directory], env=environment)
    assert writer.returncode == -signal.SIGKILL
    leftovers = [path for path in tmp_path.iterdir() if path.name.startswith(".sequences.")]
    assert len(leftovers) == 1
    assert artifacts.find_manifest(str(leftovers[0])) is None
    found = artifacts.find_manifest(directory)
    assert (None if found is None else found.fingerprint) == ("a" * 16 if had_old else None)
    _write(directory, b"new", fingerprint="e" * 16)
    assert _read(directory) == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["sequences"]


def test_kill_between_removing_the_old_and_naming_the_new(tmp_path, monkeypatch):
    directory = str(tmp_path / "sequences")
    _write(directory, b"old")
    rename = os.rename

    def killed(source: str, destination: str) -> None:
        if destination == directory:
            raise KeyboardInterrupt
        rename(source, destination)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            _write(directory, b"new")
    with pytest.raises(MissingArtifactError):
        artifacts.read_manifest(directory, written_by="prepare")
    _write(directory, b"new")
    assert _read(directory) == b"new"
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["sequences"]


def test_old_content_is_deleted_only_after_the_new_has_its_place(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    directory = str(tmp_path / "sequences")
    _write(directory, b"old")

    def killed(*_, **__) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "rm", killed)
        with pytest.raises(KeyboardInterrupt):
            _write(directory, b"new", fingerprint="f" * 16)
    assert artifacts.find_manifest(directory).fingerprint == "f" * 16
    assert _read(directory) == b"new"
    _write(directory, b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["sequences"]


@pytest.mark.parametrize("name", ["{}/shop [2026]", "memory://{}/shop [2026]"])
def test_files_are_found_by_name_whatever_the_folder_is_called(tmp_path, name):
    directory = name.format(tmp_path)
    with artifacts.committing(directory, _manifest()) as target:
        for name in ("b-2.bin", "b-1.bin", "c.bin"):
            _put(b"x", target, name)
    expected = [artifacts.join(directory, name) for name in ("b-1.bin", "b-2.bin")]
    assert artifacts.find_files(directory, "b-*.bin") == expected
    assert artifacts.find_files(f"{directory}/absent", "*") == []
    with artifacts.committing(directory, _manifest()) as target:
        _put(b"y", target, "d.bin")
    assert artifacts.find_files(directory, "*.bin") == [artifacts.join(directory, "d.bin")]


def test_a_mismatch_names_both_sides():
    features = _manifest(inputs={"sequences": "1" * 16})
    sequences = _manifest(artifact="sequences", fingerprint="2" * 16)
    with pytest.raises(StaleArtifactError) as caught:
        stage_frame.check_input("teach", features, "sequences", sequences)
    for part in ("teach", "features/text", "sequences", "1" * 16, "2" * 16, "kdsr run"):
        assert part in str(caught.value)
    stage_frame.check_input(
        "teach", features, "sequences", _manifest(artifact="sequences", fingerprint="1" * 16)
    )


@pytest.mark.parametrize("content", ['{"artifact": "fea', '{"a": 1}', "[]", "", b"\xff\xfe\x00"])
def test_damaged_manifest_commits_nothing_and_is_replaced(directory, content):
    _write(directory, b"old")
    _put(content if isinstance(content, bytes) else content.encode(), directory, "manifest.json")
    assert artifacts.find_manifest(directory) is None
    with pytest.raises(MissingArtifactError, match=r"damaged manifest\.json.*kdsr encode"):
        artifacts.read_manifest(directory, written_by="encode")
    _write(directory, b"new")
    assert _read(directory) == b"new" and artifacts.find_manifest(directory) is not None


def test_fingerprint_depends_on_values_not_on_order():
    first = artifacts.fingerprint({"a": 1, "b": [2.5, None]})
    assert artifacts.fingerprint({"b": [2.5, None], "a": 1}) == first
    assert artifacts.fingerprint({"a": 1, "b": [2.5, 0]}) != first
    assert len(first) == 16


def test_directory_that_lost_or_changed_a_file_is_no_longer_committed(directory):
    _write(directory, b"1234")
    filesystem, local = fsspec.core.url_to_fs(directory)
    _put(b"12", directory, "part", "data.bin")
    with pytest.raises(MissingArtifactError, match=r"changed 1 of its files.*part/data\.bin"):
        artifacts.read_manifest(directory, written_by="encode")
    filesystem.rm_file(f"{local}/part/data.bin")
    assert artifacts.find_manifest(directory) is None
