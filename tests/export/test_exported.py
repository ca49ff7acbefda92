"""Allow and deny lists."""

import fsspec
import numpy as np
import pytest

from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError, InputError
from kdsr_tf.export.exported import allowed_items

ITEMS = np.array(["a", "b", "c c", "d"], object)


def lists(tmp_path, **contents):
    overrides = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        overrides.append(f"export.{name}={tmp_path / name}")
    return load_config(overrides=overrides)


def test_only_the_allowed_that_are_not_denied_may_come_back(tmp_path, capsys):
    config = lists(
        tmp_path,
        allow_items="\ufeffa\r\nb\r\n\r\n c c \r\nb\r\n".encode(),
        deny_items=b"b\nx\ny",
    )
    allowed, details = allowed_items(config, ITEMS)
    assert allowed.tolist() == [True, False, True, False]
    assert details == {
        "allow_items": {"ids": 3, "unknown": 0},
        "deny_items": {"ids": 3, "unknown": 2},
    }
    assert "2 of 3 ids in" in " ".join(capsys.readouterr().err.split())


def test_any_id_may_be_listed(tmp_path):
    """Separators of Unicode, spaces at its ends, and a length that no other id has."""
    ids = ["a\u2028b", "a", " c\x85", "x" * 100_000]
    config = lists(tmp_path, deny_items="\n".join([*ids[::2], ids[3]]).encode())
    items = np.array([*ids, *map(str, range(10_000))], object)
    allowed, details = allowed_items(config, items)
    assert np.flatnonzero(~allowed).tolist() == [0, 2, 3]
    assert details == {"deny_items": {"ids": 3, "unknown": 0}}


def test_a_list_may_lie_on_a_remote_store_and_may_be_empty():
    with fsspec.open("memory://lists/deny.txt", "wb") as file:
        file.write(b"\n")
    config = load_config(overrides=["export.deny_items=memory://lists/deny.txt"])
    allowed, details = allowed_items(config, ITEMS)
    assert allowed.all()
    assert details == {"deny_items": {"ids": 0, "unknown": 0}}


@pytest.mark.parametrize(
    ("contents", "error", "said"),
    [
        ({"deny_items": b"x\ny"}, ConfigError, "none of the 2 ids in .* First: x, y"),
        ({"allow_items": b"a", "deny_items": b"a"}, ConfigError, "leave no item"),
        ({"allow_items": b""}, ConfigError, "leave no item"),
        ({"deny_items": b"\xff\xfe"}, InputError, "is not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, contents, error, said):
    with pytest.raises(error, match=said):
        allowed_items(lists(tmp_path, **contents), ITEMS)
    for nowhere in ("/nowhere/list.txt", tmp_path):
        gone = load_config(overrides=[f"export.deny_items={nowhere}"])
        with pytest.raises(InputError, match=f"there is no file {nowhere}"):
            allowed_items(gone, ITEMS)
