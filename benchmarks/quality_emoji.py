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

from benchmarks.image_methods import compare_image_methods
from benchmarks.results import Bench, BenchOptions, ensure_pack
from diptych.demo.line import IMAGE_FLAGS
from training.evaluation.suite import EvaluationConfig

__all__ = ["run_benchmark"]

_METHODS = {
    "simclr": IMAGE_FLAGS,
    # Slower to learn without negatives, so it sees more than three times the images; a concept has two other drawings.
    "mean-shift": ("--max-steps", "4000", "--set", "smallest-crop=0.35", "neighbour-count=2"),
}
_FLOORS = ("raw-pixels", "centred-pixels", "efficientnet-lite0")
_SIZE_PX = 32
_TEST_SHARE = 0.2  # as in the demo: more concepts, narrower intervals


def run_benchmark(options: BenchOptions) -> None:
    """Trains, measures and prints."""
    bench = Bench("quality_emoji", options, EvaluationConfig())
    pack = ensure_pack("emoji", bench.root, quick=options.quick, size_px=_SIZE_PX, test=_TEST_SHARE)
    bench.conclude(compare_image_methods(bench, pack, _METHODS, _FLOORS))


def main(arguments: Sequence[str] | None = None) -> None:
    run_benchmark(tyro.cli(BenchOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
