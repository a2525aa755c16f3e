"""Text quality on Wikipedia leads, held-out articles: `python -m benchmarks.quality_text`.

(a) A sentence encoder trained from scratch at the demo's budget, beside the untrained encoder (the same shape, each
seed its own weights), TF-IDF and frozen MiniLM: next-sentence MRR and description-to-article retrieval.
(b) MiniLM adapted by adjacency alone, the first seed: next-sentence MRR before and after.

Nothing is selected on the test documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from benchmarks.results import Bench, BenchOptions, ensure_pack, training_row
from diptych.demo.line import TEXT_FLAGS
from training.corpora.catalogue import fetch
from training.evaluation.evaluate import open_data
from training.evaluation.evaluated import Evaluated, average_runs
from training.evaluation.open_subject import EvaluationData
from training.evaluation.results import Result
from training.evaluation.suite import EvaluationConfig

__all__ = ["run_benchmark"]

# Chosen on the validation documents, like the demo's.
_ADAPTATION_FLAGS = ("--max-steps", "40", "--learning-rate", "1e-4")
_QUICK_FLAGS = ("--batch-size", "16", "--max-steps", "3", "--warmup-steps", "0", "--collapse-threshold", "0")
_TASKS = ("next-sentence", "description-retrieval", "geometry")


def run_benchmark(options: BenchOptions) -> None:
    """Trains, measures and prints."""
    bench = Bench("quality_text", options, EvaluationConfig(tasks=_TASKS))
    data = open_data(ensure_pack("wiki", bench.root, quick=options.quick))
    pack = bench.root / "wiki"
    tf_idf = bench.measure("tf-idf", data, name="tf-idf")
    minilm = bench.measure("minilm", data, name="minilm")
    rows = [*tf_idf.rows, *minilm.rows]

    trained, untrained = [], []
    for seed in options.seeds:
        flags = _QUICK_FLAGS if options.quick else TEXT_FLAGS
        run = bench.train("text", pack, f"scratch-{seed}", (*flags, "--seed", str(seed)))
        trained.append(bench.measure(str(run), data, name=f"from scratch {seed}"))
        untrained.append(bench.measure(f"untrained:{run}", data, name=f"untrained {seed}", seed=seed))
        rows += [*trained[-1].rows, training_row(run, trained[-1]), *untrained[-1].rows]
    mean = average_runs(trained, name="from scratch", config=bench.config.bootstrap)
    floor = average_runs(untrained, name="untrained", config=bench.config.bootstrap)
    rows += [*mean.rows, *floor.rows, *bench.differences(mean, [floor, tf_idf])]
    rows += _ratios(mean, floor)

    rows += _adapt(bench, data, minilm)
    bench.conclude(rows)


def _adapt(bench: Bench, data: EvaluationData, before: Evaluated) -> list[Result]:
    """Adapts MiniLM and compares it with what it was."""
    seed = bench.options.seeds[0]
    flags = _QUICK_FLAGS if bench.options.quick else _ADAPTATION_FLAGS
    words = ("--init", str(fetch("minilm")), *flags, "--seed", str(seed))
    run = bench.train("text", bench.root / "wiki", f"adapted-{seed}", words)
    adapted = bench.measure(str(run), data, name="minilm adapted", seed=seed)
    return [*adapted.rows, training_row(run, adapted), *bench.differences(adapted, [before])]


def _ratios(mean: Evaluated, floor: Evaluated) -> list[Result]:
    """Says how many times the floor's next-sentence MRR the trained encoders reach."""
    floors = {measurement.key: measurement.value for measurement in floor.measurements}
    found = []
    for row, measurement in zip(mean.rows, mean.measurements, strict=True):
        if measurement.task == "next-sentence" and measurement.metric == "mrr":
            ratio = measurement.value / floors[measurement.key]
            values = {"metric": "mrr ratio", "subject": f"{row.subject} / untrained", "value": ratio, "interval": None}
            found.append(Result.from_json({**row.to_json(), **values}))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    run_benchmark(tyro.cli(BenchOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
