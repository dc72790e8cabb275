"""Places: URLs through fsspec's memory file system, and the whole way through a real S3 server on loopback."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.files import copies, places
from medbench.files.manifest import read_manifest, write_manifest

ROWS = [
    {"prompt": f"Question {n}: what helps against a cold that lasts {n} days?", "predict": f"Rest, {n} days of it.",
     "label": f"Rest and drink for {n} days, then see a doctor."}
    for n in range(12)
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in memory that is empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield "memory://place"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def put(url: str, text: str) -> str:
    with fsspec.open(url, "w") as file:
        file.write(text)
    return url


def artefact(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    write_manifest(folder, "adapter", settings={}, inputs={})
    return folder


def test_a_path_is_itself_and_so_is_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for name in (str(tmp_path / "a.txt"), f"file://{tmp_path / 'a.txt'}"):
        assert not places.is_remote(name)
        assert places.local(name) == tmp_path / "a.txt"
        assert (places.is_file(name), places.size(name), places.open_bytes(name).read()) == (True, 1, b"x")
    assert not places.is_remote("owner/name@main:train")
    assert not places.is_remote("C:x")


@pytest.mark.parametrize("url", ["ftp://me:pw@host/a.jsonl", "https://token@host/a.jsonl", "s3://key:pw@bucket/logs"])
def test_an_address_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    from medbench.reports.logs import find_logs

    for reach in (places.local, places.is_file, find_logs):
        with pytest.raises(MedbenchError, match=r"password or token.*FSSPEC_") as refused:
            reach(url)
        assert not any(secret in str(refused.value) for secret in ("pw@", "token@", "key:"))


def test_a_copy_is_made_once_and_anew_when_the_content_changes(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/pt/a/b.txt", "one")
    put(f"{memory}/pt/c.txt", "two")
    first = places.local(f"{memory}/pt")
    assert (first.name, (first / "a" / "b.txt").read_text(), (first / "c.txt").read_text()) == ("pt", "one", "two")
    assert copies.origin(str(first / "a" / "b.txt")) == f"{memory}/pt/a/b.txt"
    with monkeypatch.context() as patched:
        patched.setattr(places, "_copy", lambda *given: pytest.fail("it is here already"))
        assert places.local(f"{memory}/pt/") == first
    put(f"{memory}/pt/c.txt", "three")
    second = places.local(f"{memory}/pt")
    assert second != first
    assert ((second / "c.txt").read_text(), (first / "c.txt").read_text()) == ("three", "two")
    assert places.local(f"{memory}/pt/c.txt").read_text() == "three"


def test_many_processes_may_copy_at_once(memory: str) -> None:
    put(f"{memory}/pt/a.txt", "one" * 100_000)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(places.local(f"{memory}/pt"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in copies.folder().iterdir()] == [found[0].parent.name]


def test_what_is_written_while_it_is_copied_is_refused(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/pt/a.txt", "one")
    copy = places._copy

    def slow(*given: object) -> None:
        copy(*given)  # type: ignore[arg-type]
        put(f"{memory}/pt/a.txt", "another")

    monkeypatch.setattr(places, "_copy", slow)
    with pytest.raises(MedbenchError, match="was written while it was copied"):
        places.local(f"{memory}/pt")
    assert not list(copies.folder().iterdir())


def test_the_manifest_goes_last_and_says_what_the_others_hold(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, url = fsspec.filesystem("memory"), f"{memory}/pt"
    put_file, order = type(fs).put_file, []

    def noted(self: object, source: str, target: str, *given: object, **named: object) -> None:
        order.append(target.rpartition("/")[2])
        put_file(self, source, target, *given, **named)

    monkeypatch.setattr(type(fs), "put_file", noted)
    places.publish(artefact(tmp_path / "a", weights="1", old="2"), url)
    assert order[-1] == "manifest.json"
    assert set(read_manifest(places.local(url))["files"]) == {"weights", "old"}

    def full(self: object, source: str, target: str, *given: object, **named: object) -> None:
        if target.endswith("/z"):
            raise OSError(28, "No space left on device")
        put_file(self, source, target, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(type(fs), "put_file", full)
        with pytest.raises(MedbenchError, match=r"memory://place/pt cannot be written.*No space"):
            places.publish(artefact(tmp_path / "b", weights="3", z="4"), url)
    with pytest.raises(MedbenchError, match="did not finish"):
        read_manifest(places.local(url))  # neither the old artefact nor the new one
    with pytest.raises(MedbenchError, match=r"not empty and holds no manifest.json"):
        places.publish(artefact(tmp_path / "c", weights="5"), url)


def test_an_artefact_that_is_replaced_leaves_no_file_behind(memory: str, tmp_path: Path) -> None:
    url = f"{memory}/pt"
    places.publish(artefact(tmp_path / "a", weights="1", old="2"), url)
    put(f"{url}/note-of-a-user.txt", "mine")
    places.publish(artefact(tmp_path / "b", weights="3"), url)
    held = places.local(url)
    assert {path.name for path in held.iterdir()} == {"weights", "manifest.json", "note-of-a-user.txt"}
    put(f"{url}/weights", "changed by hand")
    with pytest.raises(
        MedbenchError, match=r"does not hold what its manifest.json says: weights is missing or changed"
    ):
        places.local(url)


def test_what_is_staged_is_published_only_when_all_went_well(memory: str, cache: Path) -> None:
    url = f"{memory}/out"

    def killed() -> None:
        with places.staged(url) as out:
            artefact(out, half="1")
            (out / "manifest.json").unlink()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert not places.exists(url)
    with places.staged(url) as again:
        assert (again / "half").read_text() == "1"  # for a command that goes on where it was ended
        write_manifest(again, "adapter", settings={"out": str(again)}, inputs={})
    made = read_manifest(places.local(url))
    assert made["settings"] == {"out": url}
    assert not again.exists()
    with pytest.raises(MedbenchError, match="an artefact lies there"), places.staged(url):
        pass
    with places.staged(url, replace=True) as new:
        assert not new.exists()


def test_a_command_that_knows_its_work_sees_it_again_and_changes_nothing(memory: str, tmp_path: Path) -> None:
    url = f"{memory}/pt"
    places.publish(artefact(tmp_path / "a", **{"run.json": "{}", "weights": "1"}), url)
    made = json.loads((tmp_path / "a" / "manifest.json").read_text())

    with places.staged(url, known_by=("run.json", "none")) as seen:
        assert {path.name for path in seen.iterdir()} == {"run.json", "manifest.json"}  # no weights are fetched
        assert read_manifest(seen) == made
        when = datetime.fromisoformat(made["created"]).timestamp()
        assert 0 <= (seen / "manifest.json").stat().st_mtime - when <= 1
        assert copies.origin(str(seen)) == url
    with (
        pytest.raises(MedbenchError, match=rf"^{url} is of another run$"),
        places.staged(url, known_by=("run.json",)) as seen,
    ):
        raise MedbenchError(f"{seen} is of another run")
    assert not seen.exists()
    assert (places.local(url) / "weights").read_text() == "1"
    with places.staged(url, replace=True) as new:
        assert not new.exists()


def test_a_result_that_could_not_be_sent_is_kept_and_named(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{memory}/out"
    with monkeypatch.context() as patched:
        patched.setattr(places, "publish", lambda *given: (_ for _ in ()).throw(MedbenchError("no network")))
        with pytest.raises(MedbenchError, match="no network"), places.staged(url) as out:
            artefact(out, weights="1")
    advice = r"could not write there. Send it now: medbench publish .*out memory://"
    with pytest.raises(MedbenchError, match=advice), places.staged(url):
        pass
    sent = CliRunner().invoke(cli, ["publish", str(out), url])
    assert (sent.exit_code, sent.output) == (0, f"wrote {url}\n")
    assert (places.local(url) / "weights").read_text() == "1"


@pytest.mark.parametrize("words", [["demo"], ["microlab", "build"], ["fetch", "smollm2"], ["sweep", "study.yaml"]])
def test_what_is_made_here_says_how_it_gets_to_a_url(words: list[str], tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, [*words, "--out", "s3://bucket/x"])
    assert isinstance(refused.exception, MedbenchError)
    assert "medbench publish DIRECTORY s3://bucket/x" in str(refused.exception)


def test_a_missing_package_a_wrong_scheme_and_nothing_there_are_said(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MedbenchError, match=r"no file system for s4:// is installed.*scheme of fsspec"):
        places.local("s4://bucket/a")
    with pytest.raises(MedbenchError, match=r"memory://place/none does not exist"):
        places.local(f"{memory}/none")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MedbenchError, match=r"no file system for s3:// is installed \(pip install s3fs\)"):
        places.local("s3://bucket/a")


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt"])
def test_a_name_that_leads_out_of_the_copy_is_refused(memory: str, tmp_path: Path, name: str) -> None:
    put(f"{memory}/pt/a.txt", "one")
    with pytest.raises(MedbenchError, match="would lie outside of its copy"):
        places._copy(f"{memory}/pt", {"/place/pt/a.txt": name}, tmp_path / "copy" / "pt")
    assert not (tmp_path / "out.txt").exists()


# The whole way, once in memory and once on S3


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("moto", reason="an S3 server on loopback needs moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    yield "s3://bucket/study"
    fs.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def medbench(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def walk(root: str) -> None:
    """import -> audit -> report, and the report again from what lies there."""
    put(f"{root}/predictions.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    put(
        f"{root}/items.jsonl",
        json.dumps({"question": ROWS[3]["prompt"], "options": {"A": "x", "B": "y"}, "answer_idx": "A", "answer": "x"}),
    )
    put(f"{root}/corpus/a.jsonl", "".join(json.dumps({"text": row["prompt"]}) + "\n" for row in ROWS[:6]))
    put(f"{root}/corpus/b.txt", "".join(f"{row['label']}\n" for row in ROWS))
    imported = ["import", f"{root}/predictions.jsonl", "--format", "llamafactory", "--task", "f5", "--model", "m"]
    medbench(*imported, "--log-dir", f"{root}/logs")
    assert [name for name in places.files_of(f"{root}/logs") if name.endswith(".eval")]

    against = ["--against", f"medqa={root}/items.jsonl", "--out", f"{root}/findings"]
    medbench("audit", f"{root}/corpus", *against)
    found = [json.loads(line) for line in places.open_bytes(f"{root}/findings/findings.jsonl")]
    assert (f"{root}/corpus/a.jsonl", 3) in {(row["corpus_file"], row["record"]) for row in found}
    manifest = read_manifest(places.local(f"{root}/findings"))
    assert manifest["inputs"][f"{root}/corpus/a.jsonl"] == places.sha256(f"{root}/corpus/a.jsonl")
    medbench("audit", f"{root}/corpus/*.jsonl", *against)  # in the place of the first

    report = [f"{root}/logs", "--audit", f"{root}/findings", "--resamples", "100", "--out", f"{root}/report"]
    assert f"wrote {root}/report/report.html" in medbench("report", *report)
    assert b"<html" in places.open_bytes(f"{root}/report/report.html").read()
    made = read_manifest(places.local(f"{root}/report"))
    assert made["settings"]["audit"] == f"{root}/findings"
    assert f"{root}/findings/findings.jsonl" in made["inputs"]
    assert "none differs" in medbench("report", *report, "--check")


def test_from_predictions_to_a_report_in_memory(memory: str) -> None:
    walk(memory)


def test_from_predictions_to_a_report_on_s3(bucket: str) -> None:
    walk(bucket)


@pytest.mark.slow
def test_from_data_to_a_verified_merge_on_s3(bucket: str, tmp_path: Path) -> None:
    """Training, merging and verifying, each from the bucket and into it."""
    pytest.importorskip("trl", reason="training needs medbench[train]")
    from medbench.provider.tiny import build

    base = build(tmp_path / "base", context=512)
    write_manifest(base, "checkpoint", settings={}, inputs={})
    medbench("publish", str(base), f"{bucket}/base")
    shutil.rmtree(base)
    put(f"{bucket}/data.jsonl", "".join(json.dumps({"text": row["label"]}) + "\n" for row in ROWS))
    steps = ["max_steps=2", "logging_steps=1", "save_steps=1", "learning_rate=0.01", "cutoff_len=100"]
    given = [f"model_name_or_path={bucket}/base", f"dataset={bucket}/data.jsonl", *steps]
    for stage, seed in (("pt", 1), ("sft", 2)):
        medbench("train", "pt", *given, f"seed={seed}", f"output_dir={bucket}/adapters/{stage}")
    manifest = read_manifest(places.local(f"{bucket}/adapters/pt"))
    assert manifest["settings"]["output_dir"] == f"{bucket}/adapters/pt"
    assert manifest["base"]["name"] == f"{bucket}/base"
    assert manifest["base"]["weights"]
    before = places.version(f"{bucket}/adapters/pt/manifest.json")
    again = medbench("train", "pt", *given, "seed=1", f"output_dir={bucket}/adapters/pt")
    assert "holds this very run, finished: nothing to do" in again
    with pytest.raises(MedbenchError, match=rf"{bucket}/adapters/pt is of another run \(seed was 1, is 2\)"):
        medbench("train", "pt", *given, "seed=2", f"output_dir={bucket}/adapters/pt")
    assert places.version(f"{bucket}/adapters/pt/manifest.json") == before

    adapters = [f"--adapter={name}={bucket}/adapters/{name}" for name in ("pt", "sft")]
    weighted = [f"{adapter}:{weight}" for adapter, weight in zip(adapters, ("0.3", "0.7"), strict=True)]
    medbench("merge", "--base", f"{bucket}/base", *weighted, "--dtype", "float32", "--out", f"{bucket}/merged")
    for weights, problem in ((weighted, None), ([f"{adapter}:0.5" for adapter in adapters], f"{bucket}/merged exists")):
        before = places.version(f"{bucket}/merged/manifest.json")
        merging = ["merge", "--base", f"{bucket}/base", *weights, "--dtype", "float32", "--out", f"{bucket}/merged"]
        if problem is None:
            medbench(*merging)
        else:
            with pytest.raises(MedbenchError, match=problem):
                medbench(*merging)
        assert places.version(f"{bucket}/merged/manifest.json") == before
    inputs = read_manifest(places.local(f"{bucket}/merged"))["inputs"]
    assert (inputs["base"], inputs["pt"]["path"]) == (f"{bucket}/base", f"{bucket}/adapters/pt")
    verified = ["verify-merge", "--base", f"{bucket}/base", "--merged", f"{bucket}/merged", *adapters]
    assert "0.3" in medbench(*verified, "--expect", "pt=0.3,sft=0.7")
    wrong = CliRunner().invoke(cli, [*verified, "--expect", "pt=0.09,sft=0.49"])
    assert wrong.exit_code == 1
