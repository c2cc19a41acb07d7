"""An ensemble is fetched at one commit, and what goes wrong on the way is one plain sentence."""

import dataclasses
import shutil

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from bus_hf.ensemble.download import pull
from bus_hf.ensemble.folder import read_manifest, verify, write_manifest
from bus_hf.errors import BusError

COMMIT = "d" * 40


@pytest.fixture
def hub(tiny_ensemble, tmp_path, monkeypatch):
    """A Hub with the repository owner/ensemble; returns the list of what was asked of it."""
    asked = []

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, tuple(allow_patterns)))
        folder = tmp_path / repo_id.replace("/", "--") / "snapshots" / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in allow_patterns if repo_id == "owner/ensemble" else ():
            source = tiny_ensemble / pattern
            if source.is_file():
                (folder / pattern).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / pattern)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_folder_is_itself(tiny_ensemble, hub):
    assert pull(tiny_ensemble) == tiny_ensemble
    assert pull(str(tiny_ensemble)) == tiny_ensemble
    assert hub == []


def test_a_hub_id_gives_a_folder_that_verifies_all_from_one_commit(hub):
    folder = pull("owner/ensemble", "v1")
    verify(folder, read_manifest(folder))
    assert hub[0] == ("owner/ensemble", "v1", ("ensemble.json",))
    assert {revision for _, revision, _ in hub[1:]} == {COMMIT}


def test_only_the_chosen_members_are_fetched(hub):
    folder = pull("owner/ensemble", members="light")
    verify(folder, read_manifest(folder), "light")
    assert not (folder / "test_resnet").exists()


def test_members_in_repositories_of_their_own_are_fetched_at_their_commit(tiny_ensemble, tmp_path, hub):
    manifest = read_manifest(tiny_ensemble)
    away = dataclasses.replace(manifest.members[1], path=None, repo_id="owner/resnet", revision="e" * 40)
    write_manifest(dataclasses.replace(manifest, members=(manifest.members[0], away)), tmp_path / "mixed")
    assert pull(tmp_path / "mixed") == tmp_path / "mixed"
    assert [(repo_id, revision) for repo_id, revision, _ in hub] == [("owner/resnet", "e" * 40)]
    assert pull(tmp_path / "mixed", members="light") == tmp_path / "mixed"
    assert len(hub) == 1


def test_a_repository_without_a_manifest(hub):
    with pytest.raises(BusError, match=r"owner/other: it holds no ensemble\.json"):
        pull("owner/other")


def test_what_the_hub_refuses_names_the_repository_and_the_revision(monkeypatch):
    def refuse(*_, **__):
        raise errors.RevisionNotFoundError(
            "no", response=httpx2.Response(404, request=httpx2.Request("GET", "http://h"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BusError, match=r"^owner/ensemble@v1: the repository has no such revision"):
        pull("owner/ensemble", "v1")


def test_offline_the_real_client_says_the_same(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BusError, match="Hub cannot be reached"):
        pull("owner/ensemble")


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/no/where/at/all", "../a/b", "", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id(name, hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BusError):
        pull(name)
    assert hub == []


def test_a_file_is_no_folder(tiny_ensemble):
    with pytest.raises(BusError, match="this is a file"):
        pull(tiny_ensemble / "ensemble.json")


def test_a_folder_has_no_revision(tiny_ensemble):
    with pytest.raises(BusError, match="a folder has no revision"):
        pull(tiny_ensemble, "main")
