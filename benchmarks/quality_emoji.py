"""Image quality on emoji, held-out concept groups: `python -m benchmarks.quality_emoji`.

SimCLR at the demo's budget and mean-shift at a larger one, beside raw and centred 32-pixel images, the untrained
encoder (each seed its own weights) and a frozen EfficientNet-Lite0. A drawing of one vendor is to find the same concept
among another vendor's drawings of all held-out concepts; the figure is the mean over the six ordered pairs of vendors,
the interval over concept groups. k-NN and linear probe predict the categories.

Nothing is selected on the test groups: settings were chosen on a pack with `--validation 0.25 --test 0.2`.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from benchmarks.results import Bench, BenchOptions, average_runs, ensure_pack, training_row
from diptych.demo.line import IMAGE_FLAGS
from training.evaluation.evaluate import Evaluated, open_data
from training.evaluation.suite import EvaluationConfig

__all__ = ["run_benchmark"]

_METHODS = {
    "simclr": IMAGE_FLAGS,
    # Slower to learn without negatives, so it sees more than three times the images; a concept has two other drawings.
    "mean-shift": ("--max-steps", "4000", "--set", "smallest-crop=0.35", "neighbour-count=2"),
}
_QUICK_FLAGS = ("--batch-size", "32", "--max-steps", "3", "--collapse-threshold", "0")
_SIZE_PX = 32
_TEST_SHARE = 0.2  # as in the demo: more concepts, narrower intervals


def run_benchmark(options: BenchOptions) -> None:
    """Trains, measures and prints."""
    bench = Bench("quality_emoji", options, EvaluationConfig())
    pack = ensure_pack("emoji", bench.root, quick=options.quick, size_px=_SIZE_PX, test=_TEST_SHARE)
    data = open_data(pack)
    floors: list[Evaluated] = [
        bench.measure(name, data, name=name) for name in ("raw-pixels", "centred-pixels", "efficientnet-lite0")
    ]
    rows = [row for floor in floors for row in floor.rows]
    trained: dict[str, list[Evaluated]] = {method: [] for method in _METHODS}
    untrained = []
    for seed in options.seeds:
        for method, settings in _METHODS.items():
            flags = _QUICK_FLAGS if options.quick else settings
            run = bench.train("image", pack, f"{method}-{seed}", ("--method", method, *flags, "--seed", str(seed)))
            trained[method].append(bench.measure(str(run), data, name=f"{method} {seed}"))
            rows += [*trained[method][-1].rows, training_row(run, trained[method][-1])]
        shape = bench.folder / f"simclr-{seed}"
        untrained.append(bench.measure(f"untrained:{shape}", data, name=f"untrained {seed}", seed=seed))
        rows += untrained[-1].rows
    means = {method: average_runs(runs, name=method, config=bench.config.bootstrap) for method, runs in trained.items()}
    nothing_learnt = average_runs(untrained, name="untrained", config=bench.config.bootstrap)
    rows += [*nothing_learnt.rows]
    for mean in means.values():
        rows += [*mean.rows, *bench.differences(mean, [*floors, nothing_learnt])]
    bench.conclude(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    run_benchmark(tyro.cli(BenchOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
