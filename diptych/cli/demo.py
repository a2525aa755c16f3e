"""`diptych demo`: the whole line on real data, from raw files to a running search service."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Demo"]

INTRODUCTION = """diptych demo: learns two encoders without labels, seals them, serves them, and searches.

  1. fetch    Wikipedia leads, emoji drawings of three vendors, MiniLM to compare with (240 MB, once, verified)
  2. train    sentences (about 1 min) and drawings (about 2.5 min)
  3. evaluate both on held-out data, beside their floors
  4. export   two sealed ONNX bundles, verified
  5. serve    over gRPC, index what was held out, search it

Estimated: about 6 minutes on two quiet cores after fetching; the same steps and seeds each time."""

NEXT_STEPS = """
What to try next:
  open {picture}
  diptych train text  path/to/your/texts  runs/text     # one document a .txt file, or JSON lines
  diptych train image path/to/your/images runs/images   # any folder of images
  diptych eval runs/text --data runs/text/pack --floors
  diptych export runs/text bundles/text && diptych serve --bundles bundles --data data
  diptych serve --bundles {bundles} --data {data}       # what this demo made, to search it yourself:
  diptych search articles --text "a river in Germany\""""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Trains, evaluates, exports, serves and searches on real data, in some minutes; writes one picture."""

    folder: Path = Path("demo")
    """Where everything it makes goes; packs are reused by a second run."""
    picture: Path = Path("demo.png")
    """Query images with their neighbours, and the training curves."""

    def run(self) -> int:
        """Runs all of it."""
        from diptych.demo.line import DemoFolders, fetch_data, train_and_seal

        print(INTRODUCTION, flush=True)
        folders = DemoFolders(self.folder)
        fetch_data()
        start_s = time.monotonic()
        train_and_seal(folders)
        # The collections are made anew, so that a second run shows the same.
        shutil.rmtree(folders.data, ignore_errors=True)
        self._serve_and_search()
        print(f"\nwrote {self.picture}; all of it took {(time.monotonic() - start_s) / 60:.1f} minutes after fetching")
        print(NEXT_STEPS.format(picture=self.picture, bundles=folders.bundles, data=folders.data))
        sys.stdout.flush()
        return 0

    def _serve_and_search(self) -> None:
        from diptych import Client
        from diptych.demo import search
        from diptych.demo.line import DemoFolders
        from diptych.demo.picture import draw, read_curve
        from diptych.demo.service import running_server
        from training.corpora.image_pack import ImagePack
        from training.corpora.text_pack import TextPack

        folders = DemoFolders(self.folder)
        texts, images = TextPack.open(folders.text_pack), ImagePack.open(folders.image_pack)
        with running_server(folders.bundles, folders.data) as address, Client(address, timeout_s=120) as client:
            client.wait_until_ready(60)
            count = search.index_articles(client, texts)
            print(f"\nindexed {count} held-out articles; searching them by descriptions nothing was trained on:")
            search.search_articles(client, texts, query_count=4)
            count = search.index_drawings(client, images)
            print(f"\nindexed {count} held-out drawings; searching them by another vendor's:")
            rows = search.search_drawings(client, images, query_count=7)
            curves = [
                read_curve(folders.text_run / "metrics.csv", "sentences: Quick-Thoughts"),
                read_curve(folders.image_run / "metrics.csv", "drawings: SimCLR"),
            ]
            draw(rows, curves, self.picture)
