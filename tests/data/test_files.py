"""Files are whole or not there, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from gendyn.data import Snapshots, atomic_path, read_header, read_tensors, write_tensors
from gendyn.data.files import atomic_folder


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "note.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert listing(tmp_path) == ["note.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "note.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError("stop")
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["note.txt"]


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_save_leaves_the_old_file(tmp_path):
    target = tmp_path / "data.npz"
    old = Snapshots([0.0, 1.0], [np.zeros((3, 2)), np.ones((3, 2))])
    old.save(target)
    script = (
        "import sys, time; from pathlib import Path; from gendyn.data.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"writing"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Snapshots.load(target) == old
    old.save(target)
    assert Snapshots.load(target) == old


def test_the_new_file_has_the_permissions_of_new_files(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "made") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real.txt")
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_where_a_file_cannot_be_written(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="the folder .* does not exist; make it first"),
        atomic_path(tmp_path / "no" / "a.npz"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="it is a folder; give the name of a file in it"), atomic_path(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_protected_folder_or_file_is_refused(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "a.txt").write_text("old")
    (folder / "a.txt").chmod(0o444)
    with pytest.raises(PermissionError, match="write-protected; give another name"), atomic_path(folder / "a.txt"):
        pass
    folder.chmod(0o555)
    try:
        with (
            pytest.raises(PermissionError, match="permission denied; choose a folder you may write to"),
            atomic_path(folder / "b.txt"),
        ):
            pass
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (
            PermissionError(13, "Permission denied"),
            PermissionError,
            "permission denied; choose a folder you may write to",
        ),
        (OSError(30, "Read-only file system"), OSError, "read-only file system; choose a folder you may write to"),
    ],
)
def test_an_unwritable_folder_has_a_sentence(tmp_path, monkeypatch, failure, kind, words):
    def refuse(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match=f"cannot write .*a.npz: {words}"):
        Snapshots([0.0], [np.zeros((2, 1))]).save(tmp_path / "a.npz")


def test_a_protected_file_has_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="it is there and write-protected; give another name"):
        Snapshots([0.0], [np.zeros((2, 1))]).save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == b"old"


def test_folders_are_whole_too(tmp_path):
    target = tmp_path / "a.zarr"
    for text in ("one", "two"):
        with atomic_folder(target, ["mark"]) as temporary:
            (temporary / "mark").write_text(text)
        assert (target / "mark").read_text() == text
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(target, ["mark"]) as temporary:
        (temporary / "mark").write_text("three")
        raise RuntimeError("stop")
    assert (target / "mark").read_text() == "two"
    assert listing(tmp_path) == ["a.zarr"]


def test_somebodys_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    with (
        pytest.raises(FileExistsError, match="something else is there; give another name"),
        atomic_folder(tmp_path / "thesis", ["mark"]),
    ):
        pass
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years"


def test_tensors_come_back_with_type_shape_and_header(tmp_path):
    path = tmp_path / "a.safetensors"
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "view": base.T,
        "half": base[:2],
        "double": torch.tensor([1e-300, 1 / 3], dtype=torch.float64),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "graph": torch.ones(2, requires_grad=True) * 2,
    }
    header = {"name": "größe", "list": [1, 2.5, None], "exact": 0.1 + 0.2}
    write_tensors(path, tensors, header)
    found, told = read_tensors(path)
    assert told == header == read_header(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_tensors(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match="is a folder; a safetensors file written by gendyn is needed"):
        read_tensors(tmp_path)
    path = tmp_path / "a.safetensors"
    for content in (b"", b"garbage", b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            read_tensors(path)
    write_tensors(path, {"x": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "not one that gendyn wrote"),
        ({"gendyn": "{"}, "header of .* is damaged"),
        ({"gendyn": "[1]"}, "it holds no mapping"),
    ],
)
def test_headers_of_others_are_refused(tmp_path, metadata, words):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=words):
        read_tensors(tmp_path / "a.safetensors")


def test_saving_twice_gives_the_same_bytes(tmp_path):
    data = Snapshots([0.0, 1.0], [np.zeros((3, 2)), np.ones((3, 2))])
    for suffix in ("csv", "csv.gz"):
        data.save(tmp_path / f"a.{suffix}")
        time.sleep(0.01)
        data.save(tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
