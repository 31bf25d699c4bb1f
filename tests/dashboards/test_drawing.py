"""Strokes become images as a data set has them."""

import os
from pathlib import Path

import numpy as np
import pytest
from rowmill.data import sources
from rowmill.pages import drawing
from rowmill.pages.drawing import Strokes, Style
from sklearn.svm import SVC

from tests.dashboards import hand, tracing

MNIST = os.environ.get("ROWMILL_MNIST", "")


def moved(strokes: Strokes, by: float, times: float) -> Strokes:
    """Return strokes drawn elsewhere and in another size."""
    return [[(by + times * x, by + times * y) for x, y in stroke] for stroke in strokes]


def judge(images: np.ndarray, labels: list[str]) -> SVC:
    """Return what recognises images, (images, pixels), 0 to 255."""
    return SVC(C=5).fit(images / 255, labels)


@pytest.mark.parametrize("turned", [False, True], ids=["light on dark", "dark on light"])
def test_ten_drawn_digits_are_what_a_model_of_the_data_set_takes_them_for(turned: bool) -> None:
    digits = sources.load("")
    known = 255 - digits.images if turned else digits.images
    style = drawing.measure(known[:64])
    assert (style.ground, style.ink) == ((255, 239) if turned else (0, 16)) and style.height == 1.0  # its brightest pixel is 16
    drawn = np.stack([drawing.image(strokes, style, (8, 8, 1)) for strokes in hand.DIGITS.values()])
    answers = judge(16.0 * known.reshape(len(known), -1), digits.labels).predict(16.0 * drawn.reshape(10, -1) / 255)
    assert (answers == list(hand.DIGITS)).sum() >= 9


@pytest.mark.skipif(not MNIST, reason="ROWMILL_MNIST names no folder: strokes of real MNIST digits were NOT drawn")
def test_strokes_of_real_mnist_digits_are_known_again() -> None:
    mnist = sources.load(str(Path(MNIST)))
    images, labels = mnist.images[-10_000:], mnist.labels[-10_000:]
    style, wise = drawing.measure(images[:64]), judge(images[:3000].reshape(3000, -1), labels[:3000])
    fresh, truths = images[3000:3200], np.array(labels[3000:3200])
    drawn = np.stack([drawing.image(tracing.strokes(image[:, :, 0]), style, (28, 28, 1)) for image in fresh])
    as_they_are, again = ((wise.predict(shown.reshape(200, -1) / 255) == truths).mean() for shown in (fresh, drawn))
    assert again > as_they_are - 0.06
    # As thick as they were, too.
    assert abs(drawn.mean() / fresh.mean() - 1) < 0.2


@pytest.mark.parametrize(("by", "times"), [(0.0, 0.3), (0.6, 0.4)], ids=["small", "small, below on the right"])
def test_where_and_how_large_a_digit_is_drawn_does_not_matter(by: float, times: float) -> None:
    for strokes in hand.DIGITS.values():
        images = [drawing.image(drawn, Style(), (28, 28, 1)).astype(int) for drawn in (strokes, moved(strokes, by, times))]
        assert np.abs(images[0] - images[1]).max() <= 1


def test_the_centre_of_mass_is_in_the_middle_and_all_ink_inside() -> None:
    for strokes in hand.DIGITS.values():
        image = drawing.image(strokes, Style(), (28, 28, 1))[:, :, 0].astype(float)
        places = [(image.sum(axis=1 - axis) * (np.arange(28) + 0.5)).sum() / image.sum() for axis in (0, 1)]
        assert np.allclose(places, 14, atol=0.3)
        assert not image[0].any() and not image[:, 0].any() and not image[-1].any() and not image[:, -1].any()
    full = drawing.image(hand.DIGITS["7"], Style(height=1.0, width=1.0), (8, 8, 1))[:, :, 0]
    assert full[0].max() > 100 and full[-1].max() > 50  # the mass is above, yet nothing is cut off


def test_odd_strokes_and_shapes() -> None:
    assert (drawing.image([], Style(ground=255), (4, 5, 3)) == 255).all()
    dot = drawing.image([[(0.2, 0.9)]], Style(), (28, 28, 1))
    assert dot[13:15, 13:15].min() == 255 and (dot > 0).sum() < 30
    line = drawing.image([[(0.1, 0.5), (0.9, 0.5)]], Style(), (20, 60, 3))
    assert line.shape == (20, 60, 3) and (line[:, :, 0] == line[:, :, 2]).all() and line.max() == 255
    assert drawing.measure(np.zeros((3, 8, 8, 1), np.uint8)).brush > 0
