"""`diptych eval`: what an encoder is worth, beside what costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from training.corpora.splits import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.evaluation.open_subject import EvaluationData
    from training.evaluation.results import Result
    from training.evaluation.subjects import Subject
    from training.evaluation.suite import EvaluationConfig

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Measures runs, bundles or model directories on a pack, beside their floors.

    Texts: next-sentence, description-retrieval, topic-knn, geometry. Images: knn, linear-probe, cross-vendor,
    geometry. Those that the data has no labels or attributes for are left out.
    """

    subjects: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, bundles, sentence-transformers directories, or: raw-pixels, centred-pixels, tf-idf, minilm,
    efficientnet-lite0, untrained:RUN."""
    data: Path
    """Pack to measure on."""
    floors: bool = False
    """Measure the floors too: TF-IDF, or raw and centred pixels; and each run's encoder untrained."""
    differences: bool = False
    """Compare the first subject with each other, query by query, with the interval of the difference."""
    select: bool = False
    """Rank the subjects without labels, by LiDAR or RankMe, on a split that is not the test split; validation where
    --split is not given."""
    tasks: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="TASK [TASK ...]")] = None
    """Only these tasks."""
    split: Annotated[Split | None, tyro.conf.EnumChoicesFromValues] = None
    """Part of the data the queries are from; test where not given."""
    json: Path | None = None
    """File for the rows, as JSON."""
    markdown: bool = False
    """Print the table as Markdown."""
    pool_size: int = 1000
    """Sentences in a pool of next-sentence candidates."""
    bank_items: int | None = None
    """Most training images that k-NN and the probe use; all where not given."""
    labels_per_class: tuple[int, ...] = (1, 10)
    """Labels of every class that few-label probes are shown; classes that have fewer are not asked."""
    label_fractions: tuple[float, ...] = ()
    """Shares of every class's labels that further few-label probes are shown, such as 0.01 and 0.1."""
    layer: str | None = None
    """Measure an inner layer of the image encoders, such as stage.1; an unknown name lists those there are."""
    size_px: int | None = None
    """Side of the square that the runs' image encoders see; None: what each was trained with. Choose it on the
    validation split: things are larger in training's crops than in whole images, so a larger square may help."""
    cka: bool = False
    """Measure how alike the first subject and each other see the split: linear CKA, 1 where one is the other turned."""
    sheet: Path | None = None
    """PNG to draw: images of the split with the first subject's nearest neighbours among them."""
    map: Path | None = None
    """PNG to draw: the first subject's vectors of the split on a map."""
    map_by: Literal["pca", "umap"] = "pca"
    """How the map is made: on two principal axes, or by UMAP, which keeps neighbours together and is an extra."""
    originals: bool = False
    """Show encoders the original images even where the packed pixels have their size."""
    seed: int = 0
    """Of untrained weights, samples and the bootstrap."""
    threads: int | None = None
    """CPU threads; torch's own choice where not given."""

    def run(self) -> int:
        """Measures and prints; returns the exit code."""
        import torch
        from rich.console import Console

        from training.corpora.progress import progress_bar
        from training.evaluation.evaluate import evaluate_subject, open_data
        from training.evaluation.evaluated import describe_differences
        from training.evaluation.open_subject import open_floors, open_subject
        from training.evaluation.results import write_results
        from training.evaluation.selection import check_selection, rank_candidates, selection_table
        from training.evaluation.threads import limit_threads

        if self.threads is not None:
            limit_threads(self.threads)
        if not self.subjects and not self.floors:
            raise ValueError("name at least one subject: a run folder, a bundle, or a floor such as raw-pixels")
        if self.select:
            check_selection(self._split)
        data, config = open_data(self.data), self._config()
        threads = torch.get_num_threads()
        subjects = [
            open_subject(name, data, seed=self.seed, threads=threads, layer=self.layer, image_size_px=self.size_px)
            for name in self.subjects
        ]
        subjects += open_floors(self.subjects, data, seed=self.seed) if self.floors else []
        found = [evaluate_subject(item, data, config, lambda text: progress_bar(text, None)) for item in subjects]
        rows = [row for evaluated in found for row in evaluated.rows]
        if self.differences:
            rows += [row for other in found[1:] for row in describe_differences(found[0], other, config.bootstrap)]
        rows += self._compare_vectors(data, subjects)
        if not rows:
            raise ValueError(f"none of the tasks {', '.join(self.tasks or ())} applies to {', '.join(self.subjects)}")
        self._print(rows)
        if self.select:
            Console().print(selection_table(*rank_candidates(found)))
        if self.json is not None:
            write_results(self.json, rows)
        return 0

    def _compare_vectors(self, data: EvaluationData, subjects: Sequence[Subject]) -> list[Result]:
        """Draws what was asked for, and returns rows of likeness."""
        from training.evaluation.pictures import Projection
        from training.evaluation.side_by_side import EmbeddedSplit
        from training.evaluation.subjects import ImageSubject
        from training.evaluation.suite import describe_results

        if not (self.cka or self.sheet or self.map):
            return []
        images = data.images
        encoders = [subject for subject in subjects if isinstance(subject, ImageSubject)]
        if images is None or not encoders:
            raise ValueError("--cka, --sheet and --map show image encoders, and the data holds texts")
        first, *others = [
            EmbeddedSplit.of(encoder, images, self._split) for encoder in (encoders if self.cka else encoders[:1])
        ]
        if self.sheet is not None:
            first.draw_sheet(self.sheet, seed=self.seed)
        if self.map is not None:
            first.draw_map(self.map, names=tuple(getattr(images, "label_names", ())), by=Projection(self.map_by))
        likeness = [first.likeness(other) for other in others]
        return describe_results(
            likeness, encoders[0].info, self._config(), data_name=data.name, data_fingerprint=data.fingerprint
        )

    def _config(self) -> EvaluationConfig:
        from training.evaluation.bootstrap import BootstrapConfig
        from training.evaluation.held_out_images import ImageTaskConfig
        from training.evaluation.held_out_texts import TextTaskConfig
        from training.evaluation.suite import EvaluationConfig

        return EvaluationConfig(
            split=self._split,
            tasks=("geometry",) if self.select and self.tasks is None else self.tasks,
            text=TextTaskConfig(pool_size=self.pool_size),
            image=ImageTaskConfig(
                labels_per_class=self.labels_per_class,
                label_fractions=self.label_fractions,
                bank_items=self.bank_items,
                originals=self.originals,
                seed=self.seed,
            ),
            bootstrap=BootstrapConfig(seed=self.seed),
        )

    @property
    def _split(self) -> Split:
        return self.split or (Split.VALIDATION if self.select else Split.TEST)

    def _print(self, rows: list[Result]) -> None:
        from rich.console import Console

        from training.evaluation.report import markdown_table, rich_table

        if self.markdown:
            print(markdown_table(rows), end="")
        else:
            Console().print(rich_table(rows, title=f"{rows[0].data}, {rows[0].split} split"))
