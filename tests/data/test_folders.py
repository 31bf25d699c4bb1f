"""Folders of images: pixels come as they are in the files, and what is broken or out of place is named."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rowmill.data import dataset, sources
from rowmill.errors import ParameterError, SourceError

RANDOM = np.random.default_rng(5)


def picture(height: int = 6, width: int = 5, colour: bool = False) -> Image.Image:
    """Return an image of noise."""
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3) if colour else (height, width), np.uint8))


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def bomb(height: int, width: int) -> bytes:
    """Return a whole PNG of a few bytes that says it has this many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """Labels ant and bee with three grey images each, 6x5 pixels."""
    for label in ("ant", "bee"):
        (tmp_path / "Small Animals" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "Small Animals" / label / f"{number}.png").write_bytes(png(picture()))
    return tmp_path / "Small Animals"


def refusal(folder: Path, reading: sources.Reading | None = None) -> str:
    """Return the sentence with which a folder is refused."""
    with pytest.raises(SourceError) as caught:
        sources.load(str(folder), reading)
    return str(caught.value)


def test_a_folder_per_label_comes_exactly(folder: Path) -> None:
    (folder / "ant" / ".DS_Store").write_bytes(b"hidden")
    (folder / ".cache").mkdir()
    (folder / "README.md").write_text("what these are")
    source = sources.load(str(folder))
    assert source.name == sources.service_name(str(folder)) == "small-animals"
    assert source.keys == [f"{label}/{number}.png" for label in ("ant", "bee") for number in range(3)]
    assert source.labels == ["ant"] * 3 + ["bee"] * 3 and not source.declared_holdout.any()
    for key, image in zip(source.keys, source.images, strict=True):
        assert np.array_equal(image[..., 0], np.asarray(Image.open(folder / key)))


def test_train_and_test_above_the_labels_declare_the_holdout(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part).mkdir()
        for label in ("ant", "bee"):
            target = folder / part / label
            if part == "test":
                (folder / label).rename(target)
            else:
                target.mkdir()
                (target / "9.png").write_bytes(png(picture()))
    source = sources.load(str(folder))
    assert [key for key, is_holdout in zip(source.keys, source.declared_holdout, strict=True) if not is_holdout] == [
        "train/ant/9.png",
        "train/bee/9.png",
    ]
    assert set(source.labels) == {"ant", "bee"} and source.declared_holdout.sum() == 6


@pytest.mark.parametrize(
    ("colour", "is_rgb", "channels"), [("as is", False, 1), ("as is", True, 3), ("grey", True, 1), ("rgb", False, 3), ("rgb", True, 3)]
)
def test_colour_is_a_parameter(folder: Path, colour: str, is_rgb: bool, channels: int) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(png(picture(colour=is_rgb)))
    source = sources.load(str(folder), sources.Reading(colour=colour))
    assert source.images.shape == (6, 6, 5, channels)
    wanted = Image.open(folder / "ant" / "0.png").convert("L" if channels == 1 else "RGB")
    assert np.array_equal(source.images[0].squeeze(), np.asarray(wanted))


def test_size_is_a_parameter(folder: Path) -> None:
    (folder / "bee" / "1.png").write_bytes(png(picture(9, 9)))
    sentence = refusal(folder)
    assert "bee/1.png differs from" in sentence and "found 9x9 and 6x5 pixels; give size='6x5'" in sentence
    assert sources.load(str(folder), sources.Reading("4x3")).images.shape == (6, 4, 3, 1)


def test_jpeg_is_read_and_turned_upright(folder: Path) -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 250]], np.uint8), 8, axis=0).repeat(8, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(folder / "ant" / "0.jpeg", exif=exif)
    source = sources.load(str(folder), sources.Reading("8x16"))
    found = source.images[source.keys.index("ant/0.jpeg")]
    assert found[:, :7].min() > 200 and found[:, 9:].max() < 50


def test_an_alpha_channel_that_hides_nothing_is_dropped(folder: Path) -> None:
    image = picture()
    image.putalpha(255)
    (folder / "ant" / "0.png").write_bytes(png(image))
    assert np.array_equal(sources.load(str(folder)).images[0, ..., 0], np.asarray(image.getchannel("L")))
    image.putalpha(7)
    (folder / "ant" / "0.png").write_bytes(png(image))
    assert "ant/0.png is transparent in places" in refusal(folder) and "found alpha 7 of 255" in refusal(folder)


def test_mixed_colours_are_named(folder: Path) -> None:
    (folder / "bee" / "2.png").write_bytes(png(picture(colour=True)))
    sentence = refusal(folder)
    assert "bee/2.png is in colour and" in sentence and "ant/0.png is grey; give colour='grey' or colour='rgb'." in sentence


WHOLE = png(picture(40, 40))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", ["is empty; found 0 bytes"], id="zero-bytes"),
        pytest.param(WHOLE[: len(WHOLE) // 2], ["is a broken image"], id="cut-off"),
        pytest.param(WHOLE[:20], ["is a broken image"], id="cut-header"),
        pytest.param(b"GIF89a" + bytes(20), ["is no PNG or JPEG image; found first bytes 0x474946383961"], id="gif"),
        pytest.param(bomb(5000, 5000), ["unpacks to more than 16,777,216 pixels; found 5000 x 5000"], id="bomb"),
        pytest.param(bomb(10_000, 10_000), ["unpacks to more than 16,777,216 pixels"], id="bomb-that-pillow-warns-of"),
        pytest.param(bomb(60_000, 60_000), ["unpacks to more than 16,777,216 pixels"], id="bomb-that-pillow-refuses"),
        pytest.param(
            png(Image.fromarray(np.full((6, 5), 4000, np.uint16))), ["has not 8 bits a channel; found Pillow's mode I;16"], id="16-bit"
        ),
    ],
)
def test_a_broken_image_is_named(folder: Path, data: bytes, words: list[str]) -> None:
    (folder / "bee" / "1.png").write_bytes(data)
    sentence = refusal(folder)
    assert "bee/1.png" in sentence and all(word in sentence for word in words), sentence


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(picture()))
    (folder / "ant" / "link.png").symlink_to(tmp_path / "secret.png")
    assert "ant/link.png is a symbolic link that leaves" in refusal(folder)
    (folder / "ant" / "link.png").unlink()
    (folder / "cat").symlink_to(tmp_path, target_is_directory=True)
    assert "cat is a symbolic link that leaves" in refusal(folder)
    (folder / "cat").unlink()
    (folder / "ant" / "link.png").symlink_to(folder / "ant" / "gone.png")
    assert "ant/link.png is a symbolic link to nothing" in refusal(folder)


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "ant" / "3.png").symlink_to(folder / "ant" / "0.png")
    source = sources.load(str(folder))
    assert np.array_equal(source.images[source.keys.index("ant/3.png")], source.images[0])


def test_what_is_out_of_place_is_named(folder: Path) -> None:
    os.mkfifo(folder / "ant" / "pipe.png")
    assert "ant/pipe.png is no file" in refusal(folder)
    (folder / "ant" / "pipe.png").unlink()
    (folder / "bee" / "more").mkdir()
    assert "bee/more is no file" in refusal(folder)
    (folder / "bee" / "more").rmdir()
    (folder / "cat").mkdir()
    assert "cat has no images" in refusal(folder)
    (folder / "cat").rmdir()
    (folder / "loose.JPG").write_bytes(png(picture()))
    assert "loose.JPG is in no label's folder; found 1 such images" in refusal(folder)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "has no examples; found nothing; give one with IDX files" in refusal(tmp_path)


@pytest.mark.parametrize("size", ["28", "28x", "0x5", "-1x5", "28X28", "9999x9999"])
def test_an_odd_size_is_refused(size: str) -> None:
    with pytest.raises(ParameterError, match=f"The size '{size}' is"):
        sources.Reading(size)


def test_an_odd_colour_is_refused() -> None:
    with pytest.raises(ParameterError, match="colour 'gray'; give one of 'as is', 'grey', 'rgb'"):
        sources.Reading(colour="gray")


@pytest.mark.parametrize("reading", [sources.Reading("9x9"), sources.Reading(colour="rgb")])
def test_what_is_read_as_it_is_takes_no_other_size_or_colour(reading: sources.Reading) -> None:
    with pytest.raises(SourceError, match="cannot be given as .*; found 8x8 pixels in grey"):
        sources.load("digits", reading)
    assert sources.load("digits", sources.Reading("8x8", "grey")).images.shape == (1797, 8, 8, 1)


def test_a_folder_of_images_becomes_a_version(project, tmp_path: Path) -> None:
    from rowmill.data import warehouse  # pylint: disable=import-outside-toplevel

    for label in ("ant", "bee"):
        (tmp_path / "animals" / label).mkdir(parents=True)
        for number in range(40):
            (tmp_path / "animals" / label / f"{number:02d}.png").write_bytes(png(picture(colour=True)))
    store = warehouse.connect(project)
    version = dataset.ingest(store, sources.load(str(tmp_path / "animals")))
    assert version.shape == (6, 5, 3) and version.labels == ("ant", "bee") and sum(version.counts.values()) == 80
    assert dataset.label_counts(version).sum().to_dict() == version.counts
