"""The text form key:image:label: read exactly, plain and zipped; a bad line is named with its key and value."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from rowmill.data import sources
from rowmill.errors import SourceError

IMAGES = np.random.default_rng(3).integers(0, 256, (6, 784), np.uint8)


def lines(images: np.ndarray = IMAGES) -> list[str]:
    """Return images as lines with labels 0 and 1."""
    return [f"k{row}:{','.join(map(str, image))}:{row % 2}" for row, image in enumerate(images)]


def write(path: Path, text: list[str]) -> str:
    """Write lines, zipped where the path says so."""
    data = ("\n".join(text) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("name", ["my digits.txt", "my digits.csv.gz"])
def test_text_comes_exactly(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ["key:image:label", *lines(), ""])
    source = sources.load(path)
    assert source.name == sources.service_name(path) == "my-digits"
    assert np.array_equal(source.images, IMAGES.reshape(6, 28, 28, 1))
    assert source.keys == [f"k{row}" for row in range(6)] and source.labels == ["0", "1"] * 3
    assert not source.declared_holdout.any()


def test_a_key_may_hold_colons_and_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    source = sources.load(write(tmp_path / "a.txt", [f"2026:11:{line}\r" for line in lines()]))
    assert source.keys[0] == "2026:11:k0" and source.labels[1] == "1"


def test_size_and_colour_say_how_pixels_lie(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", lines(IMAGES[:, :36]))
    assert sources.load(path, sources.Reading("4x9")).images.shape == (6, 4, 9, 1)
    assert sources.load(path, sources.Reading("4x3", "rgb")).images.shape == (6, 4, 3, 3)
    with pytest.raises(SourceError, match="must have 48 pixel values, 4 x 4 x 3; found 36"):
        sources.load(path, sources.Reading("4x4", "rgb"))


def pixels(first: str, count: int = 784) -> str:
    """Return a line with one odd value among this many."""
    return f"odd:{','.join([first, *['0'] * (count - 1)])}:1"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("odd:12,abc:1", "Pixel 2 of key 'odd' in line 4 of .* must be a whole number from 0 to 255; found 'abc'", id="text"),
        pytest.param(pixels("0", 783), r"Key 'odd' in line 4 of .* must have 784 pixel values, 28 x 28; found 783", id="783"),
        pytest.param(pixels("0", 785), "Key 'odd' .*; found 785", id="785"),
        pytest.param(pixels("256"), "Pixel 1 of key 'odd' .*; found '256'", id="256"),
        pytest.param(pixels("-1"), "Pixel 1 of key 'odd' .*; found '-1'", id="minus"),
        pytest.param(pixels("1.5"), "Pixel 1 of key 'odd' .*; found '1.5'", id="fraction"),
        pytest.param(pixels("NaN"), "Pixel 1 of key 'odd' .*; found 'NaN'", id="nan"),
        pytest.param(pixels(""), "Pixel 1 of key 'odd' .*; found nothing", id="one-empty"),
        pytest.param("odd::1", "Pixel 1 of key 'odd' .*; found nothing", id="empty"),
        pytest.param("no colons", "Line 4 of .* is not of the form key:image:label; found 'no colons'", id="form"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    given = lines()
    with pytest.raises(SourceError, match=words):
        sources.load(write(tmp_path / "bad.txt", [*given[:3], line, *given[3:]]))


def test_images_that_are_not_square_ask_for_their_size(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'k0' in line 1 of .* make no square image; found 783 values; .* give the size"):
        sources.load(write(tmp_path / "a.txt", lines(IMAGES[:, :783])))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress("\n".join(lines()).encode())[:-9])
    with pytest.raises(SourceError, match="cut.txt.gz cannot be unzipped"):
        sources.load(str(cut))
    (tmp_path / "latin.txt").write_bytes("k:0:é".encode("latin-1"))
    with pytest.raises(SourceError, match="latin.txt is no UTF-8 text"):
        sources.load(str(tmp_path / "latin.txt"))
    with pytest.raises(SourceError, match="empty.txt holds no examples"):
        sources.load(write(tmp_path / "empty.txt", []))
