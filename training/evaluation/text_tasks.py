"""What a sentence encoder is asked: the next sentence, the described article, the topic; and how its vectors lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.corpora.document import Document
from training.evaluation.alignment_uniformity import alignment_distances
from training.evaluation.geometry import measure_spread
from training.evaluation.held_out_texts import HeldOutTexts, TextTaskConfig
from training.evaluation.knn import NeighbourVote, predict_labels
from training.evaluation.measurement import Measurement, PerQuery, TaskUnavailableError
from training.evaluation.next_sentence import NextSentenceRanks, rank_next_sentences
from training.evaluation.rank_measurements import measure_ranks
from training.evaluation.retrieval import rank_retrieval
from training.evaluation.vectors import Vectors

__all__ = ["TEXT_TASKS", "TextTask"]

_MIN_DESCRIPTION_WORDS = 3
_UNSPECIFIC = "may refer to"
_NO_TOPIC = "Uncategorized"


TextTask = Callable[[HeldOutTexts, TextTaskConfig], list[Measurement]]
"""Measures one thing, or raises `TaskUnavailableError`."""


def measure_next_sentence(texts: HeldOutTexts, config: TextTaskConfig) -> list[Measurement]:
    """Ranks the next sentence, by the served cosine and by the training score where that is known.

    Args:
        texts: Held-out documents.
        config: `pool_size`.

    Returns:
        MRR and recalls.

    Raises:
        TaskUnavailableError: The documents hold no two adjacent sentences.
    """
    served = texts.sentence_vectors
    pairs: list[tuple[str, str | None, tuple[Vectors, Vectors]]] = [("cosine", None, (served, served))]
    towers = texts.embed_towers()
    if towers is not None:
        pairs.append(("f.g", "towers", towers))
    found = []
    for score, layer, (queries, candidates) in pairs:
        try:
            ranks = rank_next_sentences(
                queries, candidates, texts.document_numbers, texts.text_numbers, pool_size=config.pool_size
            )
        except ValueError as error:
            raise TaskUnavailableError(f"next-sentence: {error}") from error
        found += _next_sentence_measurements(ranks, score, layer)
    return found


def _next_sentence_measurements(ranks: NextSentenceRanks, score: str, layer: str | None) -> list[Measurement]:
    return measure_ranks(
        ranks.ranks,
        ranks.documents,
        task="next-sentence",
        parameters={"score": score, "pool": ranks.pool_size},
        n_gallery=ranks.pool_size,
        layer=layer,
    )


def measure_description_retrieval(texts: HeldOutTexts, config: TextTaskConfig) -> list[Measurement]:
    """Ranks each article by its short description.

    Descriptions of fewer than three words, and pages that list what a title may refer to, are left out.

    Args:
        texts: Held-out documents with a `description`.
        config: `max_articles`.

    Returns:
        MRR and recalls, with the article as one text and as the mean of its sentences' vectors.

    Raises:
        TaskUnavailableError: Fewer than two documents have a description.
    """
    rows = [number for number, document in enumerate(texts.documents) if _is_described(document)]
    rows = rows[: config.max_articles]
    if len(rows) < 2:
        raise TaskUnavailableError(
            f"description-retrieval needs documents with an attribute 'description' of at least "
            f"{_MIN_DESCRIPTION_WORDS} words; the split has {len(rows)}"
        )
    descriptions = [texts.documents[row].attributes["description"] for row in rows]
    # Two articles of one description are both right: the description cannot tell them apart.
    ids: NDArray[np.int64] = np.unique(np.asarray(descriptions), return_inverse=True)[1]
    queries = texts.embed(descriptions)
    articles = texts.embed([" ".join(texts.documents[row].sentences) for row in rows])
    found = _retrieval_measurements(rank_retrieval(queries, articles, ids, ids), "text", len(rows))
    if isinstance(queries, np.ndarray):
        means = _document_means(texts)[rows]
        found += _retrieval_measurements(rank_retrieval(queries, means, ids, ids), "sentence mean", len(rows))
    return found


def _is_described(document: Document) -> bool:
    description = document.attributes.get("description", "")
    text = " ".join((description, *document.sentences))
    return len(description.split()) >= _MIN_DESCRIPTION_WORDS and _UNSPECIFIC not in text


def _retrieval_measurements(ranks: NDArray[np.int64], article: str, count: int) -> list[Measurement]:
    return measure_ranks(ranks, None, task="description-retrieval", parameters={"article": article}, n_gallery=count)


def _document_means(texts: HeldOutTexts) -> NDArray[np.float32]:
    vectors = np.asarray(texts.sentence_vectors)
    sums = np.zeros((len(texts.documents), vectors.shape[1]), dtype=np.float64)
    np.add.at(sums, texts.document_numbers, vectors)
    counts = np.bincount(texts.document_numbers, minlength=len(texts.documents))
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def measure_topics(texts: HeldOutTexts, config: TextTaskConfig) -> list[Measurement]:
    """Predicts held-out documents' topics from the nearest training documents, one vote each.

    Args:
        texts: Held-out and training documents with a `topic`; "Uncategorized" is none.
        config: `topic_neighbours` and `bank_documents`.

    Returns:
        The accuracy.

    Raises:
        TaskUnavailableError: One side has no topics.
    """
    queries = [document for document in texts.documents if _has_topic(document)]
    bank = [document for document in texts.bank if _has_topic(document)][: config.bank_documents]
    if not queries or not bank:
        raise TaskUnavailableError(
            "topic-knn needs documents with an attribute 'topic' in the train split and the one measured; "
            f"there are {len(bank)} and {len(queries)}"
        )
    names = {name: number for number, name in enumerate(sorted({item.attributes["topic"] for item in bank}))}
    labels = _topic_numbers(bank, names)
    vectors = texts.embed([" ".join(item.sentences) for item in queries])
    bank_vectors = texts.embed([" ".join(item.sentences) for item in bank])
    vote = NeighbourVote(k=min(config.topic_neighbours, len(bank)), temperature=None)
    right = predict_labels(vectors, bank_vectors, labels, vote) == _topic_numbers(queries, names)
    return [
        Measurement(
            task="topic-knn",
            metric="accuracy",
            outcome=PerQuery(right.astype(np.float64)),
            parameters={"k": vote.k, "vote": "plain"},
            n_gallery=len(bank),
            n_query=len(queries),
            labels_used=len(bank),
        )
    ]


def _has_topic(document: Document) -> bool:
    return document.attributes.get("topic", _NO_TOPIC) not in {"", _NO_TOPIC}


def _topic_numbers(documents: Sequence[Document], names: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([names.get(document.attributes["topic"], -1) for document in documents], dtype=np.int64)


def measure_text_geometry(
    texts: HeldOutTexts,
    config: TextTaskConfig,  # noqa: ARG001 - of the interface; geometry has no settings
) -> list[Measurement]:
    """Describes how the sentences' vectors lie: alignment of adjacent ones, uniformity, effective rank.

    Args:
        texts: Held-out documents.
        config: Makes no difference here.

    Returns:
        Alignment, uniformity and, where there are at least as many sentences as dimensions, RankMe; nothing of
        TF-IDF's words.

    Raises:
        TaskUnavailableError: No two sentences are adjacent.
    """
    vectors = texts.sentence_vectors
    if not isinstance(vectors, np.ndarray):
        return []  # words have no geometry to compare with an encoder's
    numbers = texts.document_numbers
    first = np.flatnonzero(numbers[:-1] == numbers[1:])
    if len(first) == 0:
        raise TaskUnavailableError("geometry needs adjacent sentences; no document of the split has two")
    distances = alignment_distances(vectors[first], vectors[first + 1])
    pairs = Measurement(
        task="geometry",
        metric="alignment",
        outcome=PerQuery(distances, numbers[first]),
        parameters={"pairs": "adjacent"},
        n_query=len(first),
    )
    return [pairs, *measure_spread(vectors)]


TEXT_TASKS: dict[str, TextTask] = {
    "next-sentence": measure_next_sentence,
    "description-retrieval": measure_description_retrieval,
    "topic-knn": measure_topics,
    "geometry": measure_text_geometry,
}
"""The text tasks, by the name a user types."""
