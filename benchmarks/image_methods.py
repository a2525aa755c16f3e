"""Image methods beside their floors, each method once a seed: what the two image benchmarks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import Bench, training_row
from training.evaluation.evaluate import open_data
from training.evaluation.evaluated import Evaluated, average_runs
from training.evaluation.results import Result

__all__ = ["compare_image_methods"]

_QUICK_FLAGS = ("--batch-size", "32", "--max-steps", "3", "--collapse-threshold", "0")


def compare_image_methods(
    bench: Bench, pack: Path, methods: Mapping[str, Sequence[str]], floors: Sequence[str]
) -> list[Result]:
    """Trains and measures methods, their floors and the encoder untrained.

    Args:
        bench: Where, and with which seeds.
        pack: The images.
        methods: The command's flags by the method's name.
        floors: Subjects that nobody trains.

    Returns:
        Rows of every subject, of what training cost, of each method's mean over its seeds, and of its differences from
        the floors and from the mean of the untrained encoders.
    """
    data, config = open_data(pack), bench.config.bootstrap
    beside = [bench.measure(name, data, name=name) for name in floors]
    trained: dict[str, list[Evaluated]] = {method: [] for method in methods}
    untrained: list[Evaluated] = []
    costs: list[Result] = []
    for seed in bench.options.seeds:
        for method, settings in methods.items():
            flags = ("--method", method, *(_QUICK_FLAGS if bench.options.quick else settings), "--seed", str(seed))
            run = bench.train("image", pack, f"{method}-{seed}", flags)
            trained[method].append(bench.measure(str(run), data, name=f"{method} {seed}"))
            costs.append(training_row(run, trained[method][-1]))
        shape = bench.folder / f"{next(iter(methods))}-{seed}"
        untrained.append(bench.measure(f"untrained:{shape}", data, name=f"untrained {seed}", seed=seed))
    nothing_learnt = average_runs(untrained, name="untrained", config=config)
    singles = [*beside, *(run for runs in trained.values() for run in runs), *untrained, nothing_learnt]
    rows = [*(row for subject in singles for row in subject.rows), *costs]
    for method, runs in trained.items():
        mean = average_runs(runs, name=method, config=config)
        rows += [*mean.rows, *bench.differences(mean, [*beside, nothing_learnt])]
    return rows
