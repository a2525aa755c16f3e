"""The demo's searches, through the client: held-out articles by their descriptions, held-out drawings by drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diptych.demo.picture import Neighbour, QueryRow
from models.bundle.pixels import decode_image
from training.corpora.document import Document
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack

if TYPE_CHECKING:
    from diptych import Client

__all__ = ["index_articles", "index_drawings", "search_articles", "search_drawings"]

QUERY_VENDOR = "noto"
SHOWN_NEIGHBOURS = 5
MIN_DESCRIPTION_WORDS = 3


@dataclass(frozen=True, slots=True)
class _Drawing:
    index: int
    concept: str


def index_articles(client: Client, pack: TextPack) -> int:
    """Puts the held-out articles into a collection, embedded by the server.

    Args:
        client: Connected.
        pack: Wikipedia leads.

    Returns:
        How many.
    """
    articles = pack.documents(Split.TEST)
    client.create_collection("articles", encoder="sentences")
    client.upsert(
        "articles",
        [_record_id(article.id) for article in articles],
        texts=[" ".join(article.sentences) for article in articles],
        metadata=[{"title": article.attributes["title"]} for article in articles],
    )
    return client.count("articles")


def search_articles(client: Client, pack: TextPack, *, query_count: int) -> None:
    """Searches articles by descriptions, which were in no training text, and prints what was found.

    Args:
        client: Connected.
        pack: Wikipedia leads.
        query_count: Descriptions to search by, taken evenly from all.
    """
    described = [article for article in pack.documents(Split.TEST) if _is_described(article)]
    for article in described[:: max(1, len(described) // query_count)][:query_count]:
        print(f"\n  '{article.attributes['description']}'")
        found = client.search("articles", text=article.attributes["description"], k=3, with_metadata=True)
        for metadata, score in zip(found.metadata or (), found.scores, strict=True):
            mark = "  <- the article it describes" if metadata["title"] == article.attributes["title"] else ""
            print(f"    {score:.3f}  {metadata['title']}{mark}")


def index_drawings(client: Client, pack: ImagePack) -> int:
    """Puts the held-out drawings of all vendors but one into a collection, from their original files.

    Args:
        client: Connected.
        pack: Emoji drawings.

    Returns:
        How many.
    """
    drawings = [
        index for index in pack.indices(Split.TEST).tolist() if pack.attributes(index)["vendor"] != QUERY_VENDOR
    ]
    client.create_collection("drawings", encoder="drawings")
    client.upsert(
        "drawings",
        [pack.ids[index] for index in drawings],
        images=[pack.original(index) for index in drawings],
        metadata=[
            {"index": index, "concept": pack.attributes(index)["concept"], "vendor": pack.attributes(index)["vendor"]}
            for index in drawings
        ],
    )
    return client.count("drawings")


def search_drawings(client: Client, pack: ImagePack, *, query_count: int) -> list[QueryRow]:
    """Searches by drawings of the vendor that was left out, and prints what was found.

    Args:
        client: Connected.
        pack: Emoji drawings.
        query_count: Drawings to search by, taken evenly from all.

    Returns:
        Queries with their neighbours, to be drawn.
    """
    queries = pack.indices(Split.TEST, vendor=QUERY_VENDOR).tolist()
    chosen = queries[:: max(1, len(queries) // query_count)][:query_count]
    print(f"\n  {QUERY_VENDOR}'s drawing -> the other vendors' nearest")
    return [_search_drawing(client, pack, _Drawing(index, pack.attributes(index)["concept"])) for index in chosen]


def _search_drawing(client: Client, pack: ImagePack, query: _Drawing) -> QueryRow:
    found = client.search("drawings", image=pack.original(query.index), k=SHOWN_NEIGHBOURS, with_metadata=True)
    neighbours: list[Neighbour] = []
    words: list[str] = []
    for metadata, score in zip(found.metadata or (), found.scores, strict=True):
        same = metadata["concept"] == query.concept
        neighbours.append(Neighbour(decode_image(pack.original(int(str(metadata["index"])))), float(score), same))
        words.append(f"{metadata['vendor']}:{metadata['concept']} {score:.3f}{' (same)' if same else ''}")
    print(f"    {query.concept:<12} -> {', '.join(words[:3])}")
    return QueryRow(decode_image(pack.original(query.index)), neighbours)


def _is_described(article: Document) -> bool:
    description = article.attributes.get("description", "")
    return len(description.split()) >= MIN_DESCRIPTION_WORDS and "may refer to" not in description


def _record_id(title: str) -> str:
    """Returns the title where it may be an id, or its beginning: ids have at most 256 bytes."""
    return title.encode()[:256].decode(errors="ignore")
