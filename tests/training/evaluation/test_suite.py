"""Subjects against data: which tasks run, what the rows say, who beats whom."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from models.bundle.encoder import Modality
from tests.training.evaluation.fakes import MemoryImages, MemoryTexts, TableSubject, mean_colour, plain_images
from training.corpora.document import Document
from training.corpora.splits import Split
from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.compare import average_seeds, compare_measurements
from training.evaluation.evaluate import evaluate_subject
from training.evaluation.evaluated import describe_differences
from training.evaluation.floors import raw_pixels
from training.evaluation.measurement import Measurement, PerQuery, TaskUnavailableError
from training.evaluation.open_subject import EvaluationData
from training.evaluation.subjects import Advance
from training.evaluation.suite import EvaluationConfig

GOOD: dict[str, list[float]] = {"a": [1, 0], "b": [0.9, 0.1], "c": [0, 1], "d": [0.1, 0.9]}
BAD: dict[str, list[float]] = {"a": [1, 0], "b": [0, 1], "c": [0.9, 0.1], "d": [-0.1, 1]}
TEXTS = MemoryTexts({Split.TEST: [Document("1", ("a", "b")), Document("2", ("c", "d"))]})
TEXT_DATA = EvaluationData(Modality.TEXT, "letters", texts=TEXTS)
CONFIG = EvaluationConfig(bootstrap=BootstrapConfig(resamples=100))


def image_data() -> EvaluationData:
    colours = [(200, 10, 10), (10, 10, 200), (250, 20, 30), (40, 10, 250), (180, 0, 20), (0, 30, 190)]
    splits = [Split.TRAIN] * 4 + [Split.TEST] * 2
    labels = np.array([0, 1, 0, 1, 0, 1])
    images = MemoryImages(plain_images(colours), splits, labels=labels)
    return EvaluationData(Modality.IMAGE, "colours", images=images)


def test_tasks_that_do_not_apply_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        rows = evaluate_subject(TableSubject(GOOD), TEXT_DATA, CONFIG).rows
    assert {row.task for row in rows} == {"next-sentence", "geometry"}
    assert {vars(record)["task"] for record in caplog.records} == {"description-retrieval", "topic-knn"}


def test_a_task_that_was_asked_for_and_does_not_apply_is_an_error() -> None:
    config = replace(CONFIG, tasks=("topic-knn",))
    with pytest.raises(TaskUnavailableError, match="'topic'"):
        evaluate_subject(TableSubject(GOOD), TEXT_DATA, config)


def test_only_tasks_that_were_asked_for_run() -> None:
    rows = evaluate_subject(mean_colour(), image_data(), replace(CONFIG, tasks=("geometry",))).rows
    assert {row.task for row in rows} == {"geometry"}


def test_an_unknown_task_is_an_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match="no image task 'next-sentence'; there are: knn, linear-probe"):
        evaluate_subject(mean_colour(), image_data(), replace(CONFIG, tasks=("next-sentence",)))


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(TaskUnavailableError, match="validation split holds no documents"):
        evaluate_subject(TableSubject(GOOD), TEXT_DATA, replace(CONFIG, split=Split.VALIDATION))
    with pytest.raises(TaskUnavailableError, match="validation split holds no images"):
        evaluate_subject(mean_colour(), image_data(), replace(CONFIG, split=Split.VALIDATION))


@pytest.mark.parametrize(("subject", "data"), [(TableSubject(GOOD), image_data()), (mean_colour(), TEXT_DATA)])
def test_a_subject_of_the_other_modality_is_refused(subject: TableSubject, data: EvaluationData) -> None:
    with pytest.raises(ValueError, match=r"reads (texts|images) and the data holds"):
        evaluate_subject(subject, data, CONFIG)


def test_rows_say_what_was_measured_on_what() -> None:
    rows = evaluate_subject(mean_colour(), image_data(), CONFIG).rows
    (row,) = [row for row in rows if row.metric == "accuracy" and row.parameters.get("k") == 1]
    assert (row.subject, row.subject_fingerprint, row.seed) == ("colour", "fingerprint of colour", 3)
    assert (row.data, row.data_fingerprint, row.split) == ("colours", "images", "test")
    assert (row.task, row.layer, row.n_query, row.n_gallery, row.labels_used) == ("knn", "embedding", 2, 4, 4)
    assert (row.value, row.interval) == (1.0, (1.0, 1.0))
    assert row.environment["python"]


def test_floors_name_their_own_layer() -> None:
    data = image_data()
    assert data.images is not None
    rows = evaluate_subject(raw_pixels(data.images), data, CONFIG).rows
    assert {row.layer for row in rows} == {"pixels"}
    assert {row.flops for row in rows} == {0.0}


def test_progress_is_shown_per_subject() -> None:
    described: list[str] = []
    done: list[int] = []

    @contextmanager
    def progress(text: str) -> Iterator[Advance]:
        described.append(text)
        yield done.append

    evaluate_subject(TableSubject(GOOD), TEXT_DATA, CONFIG, progress)
    assert described == ["evaluate table"]
    assert sum(done) == 4


def test_differences_are_paired_and_named() -> None:
    good, bad = (evaluate_subject(TableSubject(v, n), TEXT_DATA, CONFIG) for v, n in ((GOOD, "good"), (BAD, "bad")))
    rows = {row.metric: row for row in describe_differences(good, bad, CONFIG.bootstrap)}
    assert rows["mrr difference"].subject == "good - bad"
    assert rows["mrr difference"].value == pytest.approx(good.rows[0].value - bad.rows[0].value)
    assert rows["mrr difference"].interval is not None
    assert "uniformity difference" not in rows  # no mean over queries


def measurement(values: list[float], **fields: object) -> Measurement:
    outcome = PerQuery(np.array(values))
    base = Measurement(task="t", metric="m", outcome=outcome, n_query=len(values))
    return replace(base, **fields)  # type: ignore[arg-type]  # fields of Measurement by name


def test_seeds_are_averaged_query_by_query() -> None:
    averaged = average_seeds([measurement([0, 1, 1, 0]), measurement([1, 1, 0, 0])])
    assert isinstance(averaged.outcome, PerQuery)
    assert averaged.outcome.values.tolist() == [0.5, 1.0, 0.5, 0.0]
    assert averaged.value == 0.5


def test_figures_that_are_no_means_are_averaged_too() -> None:
    assert average_seeds([measurement([1], outcome=2.0), measurement([1], outcome=4.0)]).value == 3.0


def test_a_clear_difference_beats_and_the_reverse_does_not() -> None:
    one, other = measurement([1.0] * 50 + [0.0] * 10), measurement([0.0] * 40 + [1.0] * 10 + [0.0] * 10)
    assert compare_measurements(one, other).beats
    assert not compare_measurements(other, one).beats


def test_different_measures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different measures"):
        compare_measurements(measurement([1]), measurement([1], metric="other"))
    with pytest.raises(ValueError, match="no mean over queries"):
        compare_measurements(measurement([1], outcome=1.0), measurement([1], outcome=1.0))
    with pytest.raises(ValueError, match="one measure"):
        average_seeds([measurement([1]), measurement([1], parameters={"k": 2})])
