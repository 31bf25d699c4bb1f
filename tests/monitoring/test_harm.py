"""Harm is told by labels alone, and only where they stand for all requests."""

import pandas as pd
import pytest
from rowmill.monitoring import harm
from rowmill.monitoring.truth import CHANCE, GIVEN, UNSURE, Truth
from rowmill.records import Verdict
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings

MODEL = "aaaaaaaa-t001"


def known(right: int, wrong: int, chosen: str = GIVEN, model: str = MODEL) -> Truth:
    """Return so many answers whose truth is known."""
    told = {"model_id": model, "chosen": chosen, "truth": "7", "answered": ["7"] * right + ["1"] * wrong}
    return Truth(pd.DataFrame({"request_id": [f"r{number}" for number in range(right + wrong)], "place": 0, **told, "image": None}))


@pytest.fixture
def judged(project: Settings) -> Service:
    """A service whose model had 970 of 1,000 rows of the holdout right."""
    connected(project).add(Verdict(MODEL, "", "digits", "better", "It is.", rows=1000, candidate_accuracy=0.97))
    return release.open_service(project, "digits")


def test_fewer_right_answers_than_on_the_holdout_are_harm_once_that_is_shown(judged: Service) -> None:
    (found,) = harm.of(judged, known(170, 30))
    assert found.state == "harmed" and found.p_value < 1e-6
    assert "85.0% of 200 labelled requests" in found.sentence and "97.0% of 1,000 images of its holdout" in found.sentence
    for right, wrong, chosen in ((97, 3, GIVEN), (18, 2, CHANCE), (200, 0, GIVEN)):
        (found,) = harm.of(judged, known(right, wrong, chosen))
        assert found.state == "no harm shown" and "no harm is shown" in found.sentence


def test_hard_requests_and_models_without_a_verdict_say_nothing(judged: Service) -> None:
    assert harm.of(judged, known(10, 190, UNSURE)) == [] and harm.of(judged, Truth(known(1, 0).rows.iloc[:0])) == []
    (found,) = harm.of(judged, known(10, 190, model="zzzzzzzz-t001"))
    assert found.state == "silent" and "There is no verdict about 'zzzzzzzz-t001'" in found.sentence
    judged.registry.add(Verdict("bbbbbbbb-t001", "", "digits", "cannot tell", "Nothing answers."))
    (found,) = harm.of(judged, known(10, 190, model="bbbbbbbb-t001"))
    assert found.state == "silent" and "compared no rows" in found.sentence
