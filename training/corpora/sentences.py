"""Where a sentence ends: one pinned library, one list of abbreviations (docs/adr/0006-sentence-splitter.md)."""

from __future__ import annotations

import functools
import re
from importlib.metadata import version

from nupunkt import PunktSentenceTokenizer, load_default_model

__all__ = ["split_sentences", "splitter_identity"]

_TITLES = """
    adm amb brig capt cmdr col cpl det dr esq fr ft gen gov hon insp jr lt maj messrs mlle mme mr mrs ms mt mx pres prof
    pvt rep rev sen sgt sr st ste supt
"""
_MONTHS = "jan feb apr jun jul aug sep sept oct nov dec"
_SCHOLARLY = """
    al approx c ca cf ch chap cit ed eds esp est et etc fig figs fl i.e e.g ibid incl lit loc no nos nr op orig p pp
    repr seq trans transl v viz vol vols vs
"""
_NAMES = "assn assoc ave blvd bros co corp dept div hwy inc intl llc ltd natl rd univ"

_ABBREVIATIONS = frozenset(f"{_TITLES} {_MONTHS} {_SCHOLARLY} {_NAMES}".split())
"""What ends in a period without ending a sentence, besides dotted forms such as `U.S.`; lower case, no last period."""

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")


def split_sentences(text: str) -> tuple[str, ...]:
    """Splits running prose into sentences, in order.

    A blank line ends a sentence, a single line break does not. White space inside a sentence becomes one space.

    Args:
        text: Prose, of any length; English is what it was measured on.

    Returns:
        The sentences, none empty.
    """
    splitter = _splitter()
    paragraphs = (" ".join(paragraph.split()) for paragraph in _PARAGRAPH_END.split(text.replace("\r\n", "\n")))
    found = (sentence.strip() for paragraph in paragraphs if paragraph for sentence in splitter.tokenize(paragraph))
    return tuple(sentence for sentence in found if sentence)


def splitter_identity() -> str:
    """Returns the library and version that decide, as a pack records it."""
    return f"nupunkt {version('nupunkt')}"


@functools.cache
def _splitter() -> PunktSentenceTokenizer:
    # The library's own list was learned from scanned law reports; ordinary words in it (`south`, `century`, `art`)
    # hide one sentence end in fifty. Of it only the dotted forms are kept. A copy: the default model is shared.
    splitter = PunktSentenceTokenizer.from_json(load_default_model().to_json())
    for abbreviation in sorted(splitter.abbreviations):
        if "." not in abbreviation and abbreviation not in _ABBREVIATIONS:
            splitter.remove_abbreviation(abbreviation)
    splitter.add_abbreviations(sorted(_ABBREVIATIONS))
    return splitter
