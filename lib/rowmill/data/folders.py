"""A folder with one sub-folder of PNG or JPEG images per label; `train` and `test` above them declare a holdout."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rowmill.data import images
from rowmill.data.reading import Reading, Source, reads_file, same_shape, service_like
from rowmill.errors import SourceError

_ENDINGS = (".png", ".jpg", ".jpeg")


def load(folder: Path, reading: Reading) -> Source:
    """Read all images below a folder; a sub-folder's name is the label of those in it, a path in the folder is the key.

    Hidden files and folders are left out. Where the folder holds just `train` and `test`, the labels' folders are
    below these, and `test` is the declared holdout. Where no labels are asked for, images may lie at any depth.

    Raises:
        SourceError: A file is broken, no image, or out of place; images differ in size or colour; a symbolic link leaves the folder.
    """
    declared, labelled = _labelled(folder) if reading.labelled else (False, [(path, "") for path in _all_files(folder, folder)])
    if not labelled:
        raise SourceError(f"The folder {folder} has no images", step="give one with PNG or JPEG images")
    pixels = [_decode(folder, path, reading) for path, _ in labelled]
    return Source(
        service_like(folder),
        f"images in {folder.resolve()}",
        [path.relative_to(folder).as_posix() for path, _ in labelled],
        same_shape([str(path) for path, _ in labelled], pixels),
        [label for _, label in labelled],
        np.array([declared and path.relative_to(folder).parts[0] == "test" for path, _ in labelled]),
    )


def _labelled(folder: Path) -> tuple[bool, list[tuple[Path, str]]]:
    """Return whether a holdout is declared, and all files with their labels."""
    parts = _folders(folder, folder)
    declared = [part.name for part in parts] == ["test", "train"] and all(_folders(folder, part) for part in parts)
    above = parts if declared else [folder]
    return declared, [(path, label.name) for part in above for label in _folders(folder, part) for path in _files(folder, label)]


def _all_files(root: Path, folder: Path) -> list[Path]:
    # A link to a folder may lead round in a circle.
    return [
        file for path in _visible(root, folder) for file in (_all_files(root, path) if path.is_dir() and not path.is_symlink() else [path])
    ]


def _visible(root: Path, folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without hidden files; refuse links out of the root."""
    found = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)
    for path in found:
        if not path.resolve().is_relative_to(root.resolve()):
            raise SourceError(
                f"{path} is a symbolic link that leaves {root}", found=f"{path.resolve()}", step="copy the images into the folder"
            )
        if not path.exists():
            raise SourceError(f"{path} is a symbolic link to nothing", step="take it out")
    return found


def _folders(root: Path, folder: Path) -> list[Path]:
    found = _visible(root, folder)
    loose = [path for path in found if not path.is_dir() and path.suffix.lower() in _ENDINGS]
    if loose:
        raise SourceError(
            f"{loose[0]} is in no label's folder", found=f"{len(loose)} such images", step="put each into a folder with its label as name"
        )
    return [path for path in found if path.is_dir()]


def _files(root: Path, label: Path) -> list[Path]:
    found = _visible(root, label)
    for path in found:
        if not path.is_file():
            raise SourceError(f"{path} is no file", step=f"keep nothing but PNG and JPEG images in {label}")
    if not found:
        raise SourceError(f"The label's folder {label} has no images", step="add some, or take it out")
    return found


def _decode(root: Path, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
    name = str(path.relative_to(root).as_posix())
    if not name.isprintable():
        raise SourceError(f"The name {name!r} in {root} cannot be a key: it holds what cannot be printed", step="give it another name")
    return images.decode(reads_file(path, path.read_bytes), str(path), reading)
