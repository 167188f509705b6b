"""The page's face finder: fetched by npm, checked by its hashes, served by the server."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from client import parts
from tests.conftest import RunningServer

ROOT = Path(__file__).parents[2]


def test_the_lock_has_every_hash_and_no_address_of_a_registry() -> None:
    text = (parts.VIEWER / "package-lock.json").read_text("utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert {"/".join(source.split("/")[:2]) for source in parts.SOURCES} <= {
        name.removeprefix("node_modules/") for name in packages
    }
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "://" not in text


@pytest.mark.slow
def test_all_files_are_fetched_and_none_whose_bytes_differ_from_the_locks_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "viewer" / "vendor"
    assert not parts.present(folder)
    try:
        parts.fetch(folder)
    except parts.PartsMissing as error:
        pytest.skip(f"the face finder cannot be fetched: {error}")
    assert parts.present(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(parts.FILES)
    assert [p.name for p in folder.parent.iterdir()] == ["vendor"]

    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_text((parts.VIEWER / name).read_text("utf-8"), "utf-8")
    path = tmp_path / "package-lock.json"
    lock = json.loads(path.read_text("utf-8"))
    entry = lock["packages"]["node_modules/@vladmandic/face-api"]
    entry["integrity"] = "sha512-" + base64.b64encode(bytes(64)).decode()
    path.write_text(json.dumps(lock), "utf-8")
    monkeypatch.setattr(parts, "VIEWER", tmp_path)
    with pytest.raises(parts.PartsMissing, match="sha512-"):
        parts.fetch(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_npm_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(parts.PartsMissing, match="npm is not installed"):
        parts.fetch(tmp_path / "vendor")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(parts.PartsMissing, match="wanted a folder that can be written"):
        parts.fetch(tmp_path / "file" / "vendor")


def get(url: str, **headers: str) -> tuple[int, bytes, str | None, str | None]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            kind = answer.headers["Content-Type"]
            return answer.status, answer.read(), kind, answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), None, error.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    ["/vendor/", "/vendor", "/vendor/../index.html", "/vendor/%2e%2e/main.js", "/vendor/LICENSE",
     "/portraits/../../sdk.py", "/vendor/vendor/face-api.esm.js", "/face-api.esm.js"],
)  # fmt: skip
def test_nothing_but_the_listed_files_is_served(synthetic_server: RunningServer, path: str) -> None:
    assert get(f"{synthetic_server.http}{path}")[0] == 404


def test_a_file_that_a_browser_has_already_is_not_sent_again(
    synthetic_server: RunningServer,
) -> None:
    url = f"{synthetic_server.http}/main.js"
    status, body, kind, tag = get(url)
    assert status == 200 and body and kind == "text/javascript; charset=utf-8" and tag
    assert get(url, **{"If-None-Match": tag})[:2] == (304, b"")
    assert get(url, **{"If-None-Match": '"another"'})[:2] == (200, body)


def test_the_finder_is_served_where_it_is(synthetic_server: RunningServer) -> None:
    if not parts.present():
        pytest.skip("the face finder is not fetched")
    base = f"{synthetic_server.http}/vendor"
    assert get(f"{base}/face-api.esm.js")[2] == "text/javascript; charset=utf-8"
    assert get(f"{base}/tiny_face_detector_model.bin")[2] == "application/octet-stream"
    assert get(f"{base}/tfjs-backend-wasm-simd.wasm")[2] == "application/wasm"
    manifest = get(f"{base}/face_landmark_68_model-weights_manifest.json")
    assert manifest[0] == 200 and manifest[2] == "application/json"
