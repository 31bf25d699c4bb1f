"""What is drawn is what is stored: counts per label and split, samples and means, likely wrong labels, in grey and in colour."""

import numpy as np
import pandas as pd
import pytest
from rowmill.data.dataset import Dataset, Examples
from rowmill.pages import charts
from rowmill.records import DatasetVersion


def data_of(images: np.ndarray, targets: list[int], labels: tuple[str, ...]) -> tuple[Dataset, pd.DataFrame]:
    """Return a data set that is all train, and its counts."""
    examples = Examples([f"k{row}" for row in range(len(images))], images, np.array(targets))
    version = DatasetVersion("v", "s", "i", "f", "origin", labels, images.shape[1:], {"train": len(images), "validation": 0, "holdout": 0})
    train = np.bincount(targets, minlength=len(labels))
    return Dataset(version, examples, examples), pd.DataFrame({"train": train, "validation": 3, "holdout": 4}, index=list(labels))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_profile_shows_counts_samples_and_means(channels: int) -> None:
    images = np.zeros((12, 4, 6, channels), np.uint8)
    images[::2] = 250
    chart = charts.profile(*data_of(images, [0] * 10 + [1] * 2, ("ant", "bee")))
    bars, sheet, mean = chart.axes
    assert [text.get_text() for text in bars.texts] == ["17", "9"]
    assert [(bar.get_x(), bar.get_width()) for bar in bars.patches] == [(0, 10), (0, 2), (10, 3), (2, 3), (13, 4), (5, 4)]
    assert [text.get_text() for text in bars.get_yticklabels()] == ["ant", "bee"]
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["train", "validation", "holdout"]
    shown = np.asarray(sheet.images[0].get_array()).reshape(10, 8 * 7, channels)
    white = 250 / 250 if channels == 1 else 250 / 255
    assert np.allclose(shown[:4, :6], white) and np.allclose(shown[:4, 7:13], 0)
    assert np.allclose(np.asarray(mean.images[0].get_array())[:4, :6], white / 2)
    assert chart._repr_svg_().startswith("<?xml")


def test_a_profile_of_many_labels_and_large_images_stays_a_page() -> None:
    labels = tuple(f"label number {place:03d} with a long name" for place in range(90))
    chart = charts.profile(*data_of(np.zeros((90, 200, 100, 1), np.uint8), list(range(90)), labels))
    bars, sheet, _ = chart.axes
    assert bars.get_title(loc="left") == "rows of the first 30 of 90 labels" and len(bars.get_yticklabels()) == 30
    assert max(len(text.get_text()) for text in bars.get_yticklabels()) == 24
    assert np.asarray(sheet.images[0].get_array()).shape == (30 * 51, 26)
    assert chart.get_size_inches()[1] < 15


@pytest.mark.parametrize("channels", [1, 3])
def test_suspects_are_drawn_with_key_given_and_suggested_label(channels: int) -> None:
    images = np.arange(10 * 24 * channels, dtype=np.uint8).reshape(10, 4, 6, channels)
    data, _ = data_of(images, [0, 1] * 5, ("ant", "bee"))
    found = pd.DataFrame(
        {"key": [f"k{place}" for place in (7, 2, 5)], "given": ["bee", "ant", "bee"], "suggested": ["ant", "bee", "bee"], "confidence": 0.1}
    )
    chart = charts.suspects(data, found)
    assert [axes.get_title() for axes in chart.axes] == ["bee \N{RIGHTWARDS ARROW} ant?", "ant \N{RIGHTWARDS ARROW} bee?", "bee"]
    assert [axes.texts[0].get_text() for axes in chart.axes] == ["k7", "k2", "k5"]
    shown = np.asarray(chart.axes[0].images[0].get_array()).reshape(5, 7, channels)[:4, :6]
    assert np.allclose(shown, images[7] / (images.max() if channels == 1 else 255))
    assert charts.suspects(data, found.head(0))._repr_svg_().startswith("<?xml")


def test_labels_are_no_formulas() -> None:
    data, counts = data_of(np.zeros((4, 2, 2, 1), np.uint8), [0, 0, 1, 1], ("$a_$", "$10-$20"))
    chart = charts.profile(data, counts)
    assert "a_" in chart._repr_svg_() and [text.get_text() for text in chart.axes[0].get_yticklabels()] == [r"\$a_\$", r"\$10-\$20"]
