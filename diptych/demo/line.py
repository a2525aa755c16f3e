"""The demo as a user would type it: every step but the search is a `diptych` command, shown before it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["IMAGE_FLAGS", "TEXT_FLAGS", "DemoFolders", "fetch_data", "run_verb", "train_and_seal"]

TEXT_FLAGS = ("--max-steps", "240")
# Drawings bear gentler crops than photographs, and a small encoder a higher rate than a large one: chosen on the
# drawings of a wider validation split, none of which is a test drawing here.
IMAGE_FLAGS = ("--max-steps", "300", "--learning-rate", "0.005", "--set", "smallest-crop=0.5")


@dataclass(frozen=True, slots=True)
class DemoFolders:
    """Where the demo keeps what it makes; packs are reused by a second run, the rest is made anew."""

    root: Path

    @property
    def text_pack(self) -> Path:
        """Wikipedia leads."""
        return self.root / "wiki"

    @property
    def image_pack(self) -> Path:
        """Emoji drawings."""
        return self.root / "emoji"

    @property
    def text_run(self) -> Path:
        """The sentence encoder's run."""
        return self.root / "text-run"

    @property
    def image_run(self) -> Path:
        """The image encoder's run."""
        return self.root / "image-run"

    @property
    def bundles(self) -> Path:
        """Both bundles."""
        return self.root / "bundles"

    @property
    def data(self) -> Path:
        """The server's collections."""
        return self.root / "data"


def run_verb(*words: str | Path | int) -> None:
    """Shows a `diptych` command, then runs it in this process.

    Args:
        *words: What follows `diptych`.

    Raises:
        ValueError: It did not return 0; what went wrong has been printed.
    """
    from diptych.cli.main import main

    arguments = [str(word) for word in words]
    print(f"\n$ diptych {' '.join(arguments)}", flush=True)
    code = main(arguments)
    sys.stdout.flush()
    if code != 0:
        raise ValueError(f"the demo stopped: `diptych {' '.join(arguments)}` returned {code}")


def fetch_data() -> None:
    """Fetches what the demo reads, where it is not in the cache already."""
    run_verb("data", "fetch", "wiki", "emoji", "minilm")


def train_and_seal(folders: DemoFolders) -> None:
    """Packs, trains, evaluates, exports and verifies both encoders.

    Args:
        folders: Where.
    """
    for name, pack, flags in (("wiki", folders.text_pack, ()), ("emoji", folders.image_pack, ("--test", "0.2"))):
        if not pack.exists():
            run_verb("data", "pack", name, pack, *flags)
    text, image = folders.text_run, folders.image_run
    run_verb("train", "text", folders.text_pack, text, *TEXT_FLAGS, "--overwrite")
    run_verb("train", "image", folders.image_pack, image, *IMAGE_FLAGS, "--overwrite")
    _evaluate(folders.text_run, folders.text_pack, ("minilm",), ("next-sentence", "description-retrieval"))
    _evaluate(folders.image_run, folders.image_pack, (), ("cross-vendor",))
    for run, bundle in ((folders.text_run, "sentences"), (folders.image_run, "drawings")):
        destination = folders.bundles / bundle
        run_verb("export", run, destination, "--results", run / "evaluation.json", "--overwrite")
        run_verb("verify", destination)


def _evaluate(run: Path, pack: Path, others: Sequence[str], tasks: Sequence[str]) -> None:
    results = run / "evaluation.json"
    run_verb("eval", run, *others, "--data", pack, "--floors", "--tasks", *tasks, "--json", results)
