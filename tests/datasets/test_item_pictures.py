"""Pictures named after items, in the folders that people have."""

from __future__ import annotations

import os

import pytest

from kdsr_tf.datasets.item_pictures import ItemPictures, files_below


def pictures_of(folder, names, ids):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return ItemPictures([str(folder)], ids)


def by_item(folder, names, ids):
    found = pictures_of(folder, names, ids)
    return {
        item: [os.path.relpath(path, folder) for path in found.of(item)]
        for item in ids
        if found.of(item)
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Below any folder, with any ending.
        (["010/0108.jpg", "x/y/0110.JPG"], {"0108": ["010/0108.jpg"], "0110": ["x/y/0110.JPG"]}),
        (["a.jpeg", "b.png", "c.webp"], {"a": ["a.jpeg"], "b": ["b.png"], "c": ["c.webp"]}),
        (["a.GIF", "b.bmp", "c.tif"], {"a": ["a.GIF"], "b": ["b.bmp"], "c": ["c.tif"]}),
        (["a.txt", ".a.jpg", "__MACOSX/a.jpg", ".git/a.jpg", "._a.jpg"], {}),
        # A folder per item; 2 comes before 10.
        (["a/10.jpg", "a/2.jpg", "b/x.png"], {"a": ["a/2.jpg", "a/10.jpg"], "b": ["b/x.png"]}),
        (["a/views/1.jpg", "a/1.jpg"], {"a": ["a/1.jpg", "a/views/1.jpg"]}),
        # Numbered names.
        (["a_2.jpg", "a_1.jpg", "a.jpg"], {"a": ["a.jpg", "a_1.jpg", "a_2.jpg"]}),
        (["a-1.jpg", "b (2).jpg", "c_front.jpg"], {k: [v] for k, v in
            {"a": "a-1.jpg", "b": "b (2).jpg", "c": "c_front.jpg"}.items()}),
        (["a_summer.jpg", "a1.jpg", "d_1.jpg"], {}),
        # Not of `red` if `red_1` is an item too.
        (["red_1.jpg", "red_2.jpg"], {"red_1": ["red_1.jpg"], "red": ["red_2.jpg"]}),
        # The same name twice: the first one.
        (["large/a.jpg", "small/a.jpg"], {"a": ["large/a.jpg"]}),
    ],
)  # fmt: skip
def test_layouts(tmp_path, names, expected):
    assert by_item(tmp_path, names, ["0108", "0110", "a", "b", "c", "red", "red_1"]) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Folders of items: names repeat.
        (
            ["1/1.jpg", "1/2.jpg", "12/1.jpg", "12/2.jpg"],
            {"1": ["1/1.jpg", "1/2.jpg"], "12": ["12/1.jpg", "12/2.jpg"]},
        ),
        (["12/1.jpg", "12/2.jpg"], {"12": ["12/1.jpg", "12/2.jpg"]}),
        # Beginnings of ids, and categories.
        (["1/12.jpg", "1/1.jpg"], {"12": ["1/12.jpg"], "1": ["1/1.jpg"]}),
        (["1/12.jpg", "12/2.jpg"], {"12": ["1/12.jpg"], "2": ["12/2.jpg"]}),
    ],
)
def test_folders_and_files_that_both_have_ids_as_names(tmp_path, names, expected):
    assert by_item(tmp_path, names, ["1", "2", "12"]) == expected


def test_ids_that_lost_their_zeros_are_found_and_told(tmp_path):
    names = ["010/0108775015.jpg", "011/0110065001.jpg", "b0009.jpg", "cafe\u0301.jpg"]
    found = pictures_of(tmp_path, names, ["108775015", "0110065001", "B0009", "caf\u00e9"])
    assert found.of("108775015") == [str(tmp_path / names[0])]
    assert found.of("0110065001") == [str(tmp_path / names[1])]
    assert dict(found.alike) == {
        "108775015": str(tmp_path / names[0]),
        "B0009": str(tmp_path / names[2]),
        "caf\u00e9": str(tmp_path / names[3]),
    }
    (warning,) = found.warnings(found_elsewhere=False)
    assert warning.startswith("3 items got a picture whose name differs from their id")
    assert "010/0108775015.jpg for 108775015" in warning


def test_what_may_be_another_items_is_not_taken(tmp_path):
    # The id exists with its zeros; two ids, or two pictures, differ by zeros only.
    found = pictures_of(
        tmp_path, ["01.jpg", "002.jpg", "0003.jpg", "03.jpg"], ["1", "01", "2", "02", "3"]
    )
    assert [found.of(item) for item in ("1", "2", "02", "3")] == [[]] * 4
    assert found.of("01") == [str(tmp_path / "01.jpg")] and not found.alike


def test_nothing_matched_is_told_with_examples_of_both(tmp_path):
    found = pictures_of(tmp_path, ["x1.jpg", "x2.jpg", "x3.jpg", "x4.jpg"], ["d", "c", "b", "a"])
    (warning,) = found.warnings(found_elsewhere=False)
    assert "Looked for a, b, c, each as ID.jpg" in warning
    shown = ", ".join(str(tmp_path / f"x{k}.jpg") for k in (1, 2, 3))
    assert f"Pictures there: 4, such as {shown}." in warning
    assert not list(found.warnings(found_elsewhere=True))
    (warning,) = pictures_of(tmp_path / "empty", [], ["a"]).warnings(found_elsewhere=False)
    assert warning.endswith("Pictures there: 0.")


def test_a_name_without_its_folder(tmp_path):
    found = pictures_of(tmp_path, ["1/a.jpg", "2/a.jpg", "2/b.jpg"], [])
    assert found.named("b.jpg") == found.named("b") == str(tmp_path / "2" / "b.jpg")
    assert found.named("a.jpg") is found.named("c.jpg") is None


def test_so_many_folders_are_looked_into(tmp_path):
    pictures_of(tmp_path, ["a/1.jpg", "b/2.jpg", "c/3.jpg"], [])
    found = [os.path.relpath(file.path, tmp_path) for file in files_below(str(tmp_path), 3)]
    assert found == ["a/1.jpg", "b/2.jpg"]  # the folder itself is one
