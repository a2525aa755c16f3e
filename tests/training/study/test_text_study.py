"""The method study on texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.evaluation.tiny_runs import make_bert_directory, make_text_pack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.text_training import build_text_training, find_tokenizer, split_sentences
from training.run_config import TextRunConfig
from training.study.augmentations import plan_augmentations
from training.study.cell import CellSpecification
from training.study.config import AugmentationStudyConfig, MethodStudyConfig
from training.study.flops import step_flops
from training.study.methods import plan_methods
from training.study.runner import measure_floors, run_cells


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> TextPack:
    return make_text_pack(tmp_path_factory.mktemp("packs") / "text")


@pytest.fixture(scope="module")
def directory(pack: TextPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert_directory(tmp_path_factory.mktemp("bert"), pack)


def text_run(cell: CellSpecification) -> TextRunConfig:
    assert isinstance(cell.run, TextRunConfig)
    return cell.run


def test_every_text_method_is_planned_from_scratch_or_from_a_directory(
    pack: TextPack, directory: Path, tmp_path: Path
) -> None:
    names = [cell.name for cell in plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path))]
    assert names == ["quick-thoughts", "simcse", "tsdae"]
    with pytest.raises(ValueError, match="--method simclr learns from image"):
        plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simclr",)))
    with pytest.raises(ValueError, match="holds texts; changes of views are studied on images"):
        plan_augmentations(AugmentationStudyConfig(data=pack.path, out=tmp_path, method="simcse"))

    [scratch] = plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simcse",)))
    [adapted] = plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simcse",), init=directory))
    assert text_run(scratch).encoder is not None
    assert (text_run(adapted).encoder, text_run(adapted).init) == (None, directory)
    assert scratch.run.fit.optimiser.learning_rate > adapted.run.fit.optimiser.learning_rate
    sentences = sum(map(len, split_sentences(pack, Split.TRAIN)))
    assert scratch.run.batch_size == sentences // 3  # of so few


def test_a_text_method_starts_from_a_directory_and_is_measured_beside_it(
    pack: TextPack, directory: Path, tmp_path: Path
) -> None:
    config = MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simcse",), budget=1e7, threads=1, init=directory)
    [cell] = run_cells(plan_methods(config), tmp_path)

    assert cell.failure is None
    assert cell.evaluated is not None
    assert {"next-sentence", "description-retrieval"} <= {row.task for row in cell.evaluated.rows}
    floors = measure_floors(config, [cell])
    assert [floor.rows[0].subject for floor in floors] == ["tf-idf", "before"]


def test_the_cost_of_a_step_is_averaged_over_batches_of_other_lengths(
    pack: TextPack, directory: Path, tmp_path: Path
) -> None:
    [cell] = plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simcse",), init=directory))
    run = text_run(cell)
    tokenizer = find_tokenizer(run, pack)
    training = build_text_training(run, pack, tokenizer)
    one, two = (step_flops(training.method, training.feed, batches=count) for count in (1, 2))
    assert 0.5 * one < two < 2 * one
    assert two != one
    # Two readings of at least three tokens a sentence by the weight matrices, forward and twice as much backward.
    matrices = 2 * (4 * 8 * 8 + 2 * 8 * 16)
    assert one > 2 * (3 * run.batch_size) * (3 * 2 * matrices)
