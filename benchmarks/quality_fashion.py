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

from benchmarks.image_methods import compare_image_methods
from benchmarks.results import Bench, BenchOptions, ensure_pack
from diptych.demo.line import IMAGE_FLAGS
from training.evaluation.suite import EvaluationConfig

__all__ = ["run_benchmark"]

# Steps that were set to stay well within the ten minutes: of 256 images each, and of 64.
_METHODS = {
    "simclr": (*IMAGE_FLAGS, "--max-steps", "400", "--evaluate-every-steps", "400"),
    "mean-shift": ("--max-steps", "2400", "--evaluate-every-steps", "2400", "--set", "smallest-crop=0.35"),
}
_FLOORS = ("raw-pixels", "centred-pixels")
_SIZE_PX = 28
_CPU_MINUTES = 10


def run_benchmark(options: BenchOptions) -> None:
    """Trains, measures and prints."""
    bench = Bench("quality_fashion", options, EvaluationConfig(tasks=("knn", "linear-probe", "geometry")))
    pack = ensure_pack("fashion-mnist", bench.root, quick=options.quick, size_px=_SIZE_PX)
    rows = compare_image_methods(bench, pack, _METHODS, _FLOORS)
    for row in rows:
        if row.metric == "cpu-minutes" and row.value > _CPU_MINUTES:
            print(f"note: {row.subject} took {row.value:.1f} CPU minutes, over the {_CPU_MINUTES} it is meant for")
    bench.conclude(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(BenchOptions, args=arguments, description=__doc__, default=BenchOptions(seeds=(0,)))
    run_benchmark(options)


if __name__ == "__main__":
    main()
