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


def response(status):
    return httpx2.Response(status, request=httpx2.Request("GET", "https://hub.invalid/api"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError("no", response=response(403)), "access to this repository must be granted"),
        (errors.RepositoryNotFoundError("no", response=response(404)), "neither a folder here nor a repository"),
        (errors.RevisionNotFoundError("no", response=response(404)), "no such revision"),
        (errors.HfHubHTTPError("no", response=response(503)), "Hub cannot be reached"),
        (errors.LocalEntryNotFoundError("no"), "Hub cannot be reached"),
        (errors.OfflineModeIsEnabled("no"), "Hub cannot be reached"),
        (httpx2.ProxyError("no"), "Hub cannot be reached"),
        (httpx2.ReadTimeout("no"), "Hub cannot be reached"),
        (errors.HFValidationError("no"), "this is no Hub id"),
        (OSError(28, "No space left on device"), "cannot be stored .No space left"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_goes_wrong_is_one_sentence(monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BusError, match=message) as caught:
        pull("owner/ensemble", "v1")
    assert str(caught.value).startswith("owner/ensemble@v1: ")
    assert "\n" not in str(caught.value)


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
