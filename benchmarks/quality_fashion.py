"""Image quality on Fashion-MNIST, all 10,000 test images: `python -m benchmarks.quality_fashion`.

SimCLR and mean-shift, each trained for a number of steps that was fixed beforehand to stay within ten CPU minutes (the
cost is measured and printed), beside raw and centred pixels and the untrained encoder: k-NN and linear accuracy with
all training images as the bank. One seed unless told otherwise (`--seeds 0 1 2`).

Nothing is selected on the test images: the steps are set by time, the settings are the demo's for drawings, and the
probe's penalty is chosen on a tenth of the training images.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from benchmarks.results import Bench, BenchOptions, average_runs, ensure_pack, training_row
from diptych.demo.line import IMAGE_FLAGS
from training.evaluation.evaluate import Evaluated, open_data
from training.evaluation.suite import EvaluationConfig

__all__ = ["run_benchmark"]

# Steps that were set to stay well within the ten minutes: of 256 images each, and of 64.
_METHODS = {
    "simclr": (*IMAGE_FLAGS, "--max-steps", "400", "--evaluate-every-steps", "400"),
    "mean-shift": ("--max-steps", "2400", "--evaluate-every-steps", "2400", "--set", "smallest-crop=0.35"),
}
_QUICK_FLAGS = ("--batch-size", "32", "--max-steps", "3", "--collapse-threshold", "0")
_SIZE_PX = 28
_CPU_MINUTES = 10


def run_benchmark(options: BenchOptions) -> None:
    """Trains, measures and prints."""
    bench = Bench("quality_fashion", options, EvaluationConfig(tasks=("knn", "linear-probe", "geometry")))
    pack = ensure_pack("fashion-mnist", bench.root, quick=options.quick, size_px=_SIZE_PX)
    data = open_data(pack)
    floors: list[Evaluated] = [bench.measure(name, data, name=name) for name in ("raw-pixels", "centred-pixels")]
    rows = [row for floor in floors for row in floor.rows]
    trained: dict[str, list[Evaluated]] = {method: [] for method in _METHODS}
    untrained = []
    for seed in options.seeds:
        for method, settings in _METHODS.items():
            flags = _QUICK_FLAGS if options.quick else settings
            run = bench.train("image", pack, f"{method}-{seed}", ("--method", method, *flags, "--seed", str(seed)))
            found = bench.measure(str(run), data, name=f"{method} {seed}")
            trained[method].append(found)
            cost = training_row(run, found)
            rows += [*found.rows, cost]
            if cost.value > _CPU_MINUTES:
                print(f"note: {method} took {cost.value:.1f} CPU minutes here, over the {_CPU_MINUTES} it is meant for")
        shape = bench.folder / f"simclr-{seed}"
        untrained.append(bench.measure(f"untrained:{shape}", data, name=f"untrained {seed}", seed=seed))
        rows += untrained[-1].rows
    nothing_learnt = average_runs(untrained, name="untrained", config=bench.config.bootstrap)
    rows += nothing_learnt.rows
    for method, runs in trained.items():
        mean = average_runs(runs, name=method, config=bench.config.bootstrap)
        rows += [*mean.rows, *bench.differences(mean, [*floors, nothing_learnt])]
    bench.conclude(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(BenchOptions, args=arguments, description=__doc__, default=BenchOptions(seeds=(0,)))
    run_benchmark(options)


if __name__ == "__main__":
    main()
