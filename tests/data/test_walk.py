"""One rule for links: followed, loops end, links to nowhere are told."""

import os

from bus_hf.data.walk import walk


def read(root):
    return {result.path.relative_to(root).as_posix(): [path.name for path in result.files] for result in walk(root)}


def test_links_to_files_and_folders_are_followed_once_and_loops_end(tmp_path):
    root, store = tmp_path / "root", tmp_path / "store"
    (root / "b").mkdir(parents=True)
    store.mkdir()
    for path in (root / "b" / "x.png", store / "y.png", root / ".hidden", root / "Thumbs.db"):
        path.write_bytes(b"")
    (root / "file.png").symlink_to(store / "y.png")
    (root / "linked").symlink_to(store)
    (root / "a").symlink_to(root / "b")
    (root / "b" / "up").symlink_to(root)
    (store / "self").symlink_to(store)
    assert read(root) == {".": ["file.png"], "b": ["x.png"], "linked": ["y.png"]}
    assert sorted(path.name for result in walk(root) for path in result.again) == ["a", "self", "up"]


def test_a_link_farm_is_read_in_no_time(tmp_path):
    for level in range(40):
        (tmp_path / str(level)).mkdir()
    for level in range(39):
        for name in "ab":
            (tmp_path / str(level) / name).symlink_to(tmp_path / str(level + 1))
    assert sum(1 for _ in walk(tmp_path / "0")) == 40


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    os.mkfifo(tmp_path / "pipe.png")
    (result,) = walk(tmp_path)
    assert [path.name for path in result.broken] == ["gone.png", "pipe.png", "round.png"]
    assert result.files == ()


def test_a_folder_without_access_is_told(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert [result.broken for result in walk(tmp_path)] == [(), (tmp_path / "shut",)]
