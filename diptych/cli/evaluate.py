"""`diptych eval`: what an encoder is worth, beside what costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from training.corpora.splits import Split

if TYPE_CHECKING:
    from training.evaluation.results import Result
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
    tasks: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="TASK [TASK ...]")] = None
    """Only these tasks."""
    split: Annotated[Split, tyro.conf.EnumChoicesFromValues] = Split.TEST
    """Part of the data the queries are from."""
    json: Path | None = None
    """File for the rows, as JSON."""
    markdown: bool = False
    """Print the table as Markdown."""
    pool_size: int = 1000
    """Sentences in a pool of next-sentence candidates."""
    bank_items: int | None = None
    """Most training images that k-NN and the probe use; all where not given."""
    originals: bool = False
    """Show encoders the original images even where the packed pixels have their size."""
    seed: int = 0
    """Of untrained weights, samples and the bootstrap."""
    threads: int | None = None
    """CPU threads; torch's own choice where not given."""

    def run(self) -> int:
        """Measures and prints; returns the exit code."""
        import torch

        from training.corpora.progress import progress_bar
        from training.evaluation.evaluate import describe_differences, evaluate_subject, open_data
        from training.evaluation.open_subject import open_floors, open_subject
        from training.evaluation.results import write_results
        from training.evaluation.threads import limit_threads

        if self.threads is not None:
            limit_threads(self.threads)
        if not self.subjects and not self.floors:
            raise ValueError("name at least one subject: a run folder, a bundle, or a floor such as raw-pixels")
        data, config = open_data(self.data), self._config()
        subjects = [open_subject(name, data, seed=self.seed, threads=torch.get_num_threads()) for name in self.subjects]
        subjects += open_floors(self.subjects, data, seed=self.seed) if self.floors else []
        found = [evaluate_subject(item, data, config, lambda text: progress_bar(text, None)) for item in subjects]
        rows = [row for evaluated in found for row in evaluated.rows]
        if self.differences:
            rows += [row for other in found[1:] for row in describe_differences(found[0], other, config.bootstrap)]
        if not rows:
            raise ValueError(f"none of the tasks {', '.join(self.tasks or ())} applies to {', '.join(self.subjects)}")
        self._print(rows)
        if self.json is not None:
            write_results(self.json, rows)
        return 0

    def _config(self) -> EvaluationConfig:
        from training.evaluation.bootstrap import BootstrapConfig
        from training.evaluation.held_out_images import ImageTaskConfig
        from training.evaluation.held_out_texts import TextTaskConfig
        from training.evaluation.suite import EvaluationConfig

        return EvaluationConfig(
            split=self.split,
            tasks=self.tasks,
            text=TextTaskConfig(pool_size=self.pool_size),
            image=ImageTaskConfig(bank_items=self.bank_items, originals=self.originals, seed=self.seed),
            bootstrap=BootstrapConfig(seed=self.seed),
        )

    def _print(self, rows: list[Result]) -> None:
        from rich.console import Console

        from training.evaluation.report import markdown_table, rich_table

        if self.markdown:
            print(markdown_table(rows), end="")
        else:
            Console().print(rich_table(rows, title=f"{rows[0].data}, {rows[0].split} split"))
