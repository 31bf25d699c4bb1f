"""Examples come as they are in the files, and a broken file is named."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from rowmill.data import sources
from rowmill.errors import ParameterError, SourceError

PARTS = {"train": 30, "t10k": 12}


def idx(values: np.ndarray, magic: int | None = None) -> bytes:
    """Return values as an IDX file's bytes."""
    kind = (0x0800 | values.ndim) if magic is None else magic
    return struct.pack(f">I{values.ndim}I", kind, *values.shape) + values.astype(np.uint8).tobytes()


def write_folder(folder: Path, zipped: bool = False) -> Path:
    """Write a small folder of IDX files: 5x4 pixels, labels 0 to 2, no two images the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in PARTS.items():
        images = (np.arange(rows * 20).reshape(rows, 5, 4) + (part == "t10k")) % 256
        for stem, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", np.arange(rows) % 3)):
            (folder / f"{stem}.gz" if zipped else folder / stem).write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    return folder


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_reads_idx_folders(tmp_path: Path, zipped: bool) -> None:
    source = sources.load(str(write_folder(tmp_path / "My Digits", zipped)))
    assert source.name == "my-digits"
    assert source.images.shape == (42, 5, 4, 1) and source.images.dtype == np.uint8
    assert source.images[31, 0, 3, 0] == 24
    assert source.labels[:4] == ["0", "1", "2", "0"]
    assert source.keys[30] == "t10k/00000" and source.declared_holdout.tolist() == [False] * 30 + [True] * 12


def test_bundled_digits_keep_their_pixels() -> None:
    source = sources.load("digits")
    assert source.images.shape == (1797, 8, 8, 1) and source.images.max() == 16
    assert not source.declared_holdout.any()


def break_magic(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((30, 5, 4)), magic=0x0D03))


def cut_values(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def add_values(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(10**6)))
    path.unlink()


def cut_header(folder: Path) -> None:
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:6])


def drop_label(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(29) % 3))


def remove_file(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()


def cut_gzip(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def change_size(folder: Path) -> None:
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((12, 4, 4))))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(break_magic, ["train-images-idx3-ubyte", "magic number must be 0x00000803", "found 0x00000d03"], id="wrong-magic"),
        pytest.param(cut_values, ["t10k-images-idx3-ubyte", "240 bytes", "found 239"], id="cut-short"),
        pytest.param(add_values, ["t10k-images-idx3-ubyte.gz", "240 bytes", "found more than 240"], id="too-long"),
        pytest.param(cut_header, ["t10k-labels-idx1-ubyte", "inside its header"], id="cut-header"),
        pytest.param(drop_label, ["30 images and 29 labels"], id="counts-differ"),
        pytest.param(remove_file, ["There is no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz"], id="missing-file"),
        pytest.param(cut_gzip, ["train-images-idx3-ubyte.gz", "cannot be unzipped"], id="cut-gzip"),
        pytest.param(change_size, ["(5, 4) and (4, 4) pixels"], id="sizes-differ"),
    ],
)
def test_names_what_is_broken(tmp_path: Path, damage, words: list[str]) -> None:
    folder = write_folder(tmp_path / "broken")
    damage(folder)
    with pytest.raises(SourceError) as caught:
        sources.load(str(folder))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_folder_is_named() -> None:
    with pytest.raises(SourceError, match="'/no/such' is not a folder or a file"):
        sources.load("/no/such")


def test_a_folder_without_a_usable_name_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "2024")
    with pytest.raises(ParameterError, match="A service cannot be named '2024'"):
        sources.service_name(str(folder))
    assert len(sources.load(str(folder)).keys) == 42
