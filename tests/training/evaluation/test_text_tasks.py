"""Text tasks on documents whose right answers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.evaluation.fakes import TableSubject
from training.corpora.document import Document
from training.evaluation.floors import fit_tf_idf
from training.evaluation.held_out_texts import HeldOutTexts, TextTaskConfig
from training.evaluation.measurement import Measurement, PerQuery, TaskUnavailableError
from training.evaluation.subjects import Advance
from training.evaluation.text_tasks import TEXT_TASKS

CHAIN = [Document("1", ("a", "b", "c")), Document("2", ("d", "e"))]
VECTORS: dict[str, list[float]] = {
    "a": [1, 0, 0],
    "b": [0.9, 0.1, 0],
    "c": [0.7, 0.7, 0],
    "d": [0, 0, 1],
    "e": [0, 0.5, 1],
}


class TowerTable(TableSubject):
    """f of each text is its vector, g the vector of what f should find before it."""

    def embed_towers(
        self, texts: Sequence[str], advance: Advance | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        f = np.eye(5, dtype=np.float32)
        return f, np.roll(f, 1, axis=0)  # g of i+1 equals f of i


def run(task: str, held: HeldOutTexts, config: TextTaskConfig | None = None) -> dict[str, Measurement]:
    found = TEXT_TASKS[task](held, config or TextTaskConfig())
    return {
        f"{item.metric} {' '.join(str(value) for value in item.parameters.values())}".strip(): item for item in found
    }


def test_next_sentence_is_ranked_by_the_served_vectors() -> None:
    found = run("next-sentence", HeldOutTexts(TableSubject(VECTORS), CHAIN))
    # b answers a at rank 1, c answers b at rank 2 (a is nearer), e answers d at rank 1.
    assert found["mrr cosine 5"].value == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["recall@1 cosine 5"].value == pytest.approx(2 / 3)
    assert found["recall@5 cosine 5"].value == 1.0
    assert set(found) == {f"{metric} cosine 5" for metric in ("mrr", "recall@1", "recall@5", "recall@10")}


def test_next_sentence_clusters_are_documents() -> None:
    outcome = run("next-sentence", HeldOutTexts(TableSubject(VECTORS), CHAIN))["mrr cosine 5"].outcome
    assert isinstance(outcome, PerQuery)
    assert outcome.clusters is not None
    assert outcome.clusters.tolist() == [0, 0, 1]


def test_training_score_stands_beside_the_cosine_where_it_is_known() -> None:
    found = run("next-sentence", HeldOutTexts(TowerTable(VECTORS), CHAIN))
    assert found["mrr f.g 5"].value == 1.0
    assert found["mrr f.g 5"].layer == "towers"
    assert found["mrr cosine 5"].value < 1.0


def test_pool_size_is_as_asked() -> None:
    found = run("next-sentence", HeldOutTexts(TableSubject(VECTORS), CHAIN), TextTaskConfig(pool_size=3))
    assert found["mrr cosine 3"].n_gallery == 3


def test_texts_without_neighbours_have_no_next_sentence() -> None:
    held = HeldOutTexts(TableSubject(VECTORS), [Document("1", ("a",)), Document("2", ("b",))])
    with pytest.raises(TaskUnavailableError, match="next-sentence needs running text"):
        run("next-sentence", held)


def described(number: int, description: str, *sentences: str) -> Document:
    return Document(str(number), sentences, {"description": description})


def test_descriptions_find_their_articles() -> None:
    documents = [described(1, "first of all", "a", "b"), described(2, "second of all", "d", "e")]
    vectors = VECTORS | {
        "first of all": [1, 0, 0],
        "second of all": [1, 0, 0.1],  # points at the first article: wrong
        "a b": [1, 0, 0],
        "d e": [0, 0, 1],
    }
    found = run("description-retrieval", HeldOutTexts(TableSubject(vectors), documents))
    assert found["recall@1 text"].value == 0.5
    assert found["mrr text"].value == 0.75
    assert found["recall@1 text"].n_gallery == 2
    assert found["recall@1 sentence mean"].value == 0.5


def test_article_by_sentence_mean_takes_the_mean_of_its_own_sentences() -> None:
    documents = [described(1, "points at c", "a", "c"), described(2, "points at d", "d", "e")]
    vectors = VECTORS | {
        "points at c": [0.85, 0.35, 0],
        "points at d": [0, 0.25, 1],
        "a c": [0, 0, 1],
        "d e": [1, 0, 0],
    }
    found = run("description-retrieval", HeldOutTexts(TableSubject(vectors), documents))
    assert found["recall@1 text"].value == 0.0
    assert found["recall@1 sentence mean"].value == 1.0


def test_short_and_unspecific_descriptions_are_left_out() -> None:
    documents = [
        described(1, "too short", "a"),
        described(2, "name that may refer to things", "b"),
        described(3, "a real description", "c"),
        Document("4", ("d",)),
    ]
    with pytest.raises(TaskUnavailableError, match="the split has 1"):
        run("description-retrieval", HeldOutTexts(TableSubject(VECTORS), documents))


def test_equal_descriptions_are_both_right() -> None:
    documents = [described(1, "one same description", "a"), described(2, "one same description", "d")]
    vectors = VECTORS | {"one same description": [1, 0, 0]}
    found = run("description-retrieval", HeldOutTexts(TableSubject(vectors), documents))
    assert found["recall@1 text"].value == 1.0


def topical(number: int, topic: str, sentence: str) -> Document:
    return Document(str(number), (sentence,), {"topic": topic})


def test_topics_are_voted_on_by_training_documents() -> None:
    bank = [topical(1, "x", "a"), topical(2, "x", "b"), topical(3, "y", "d"), topical(4, "Uncategorized", "e")]
    queries = [topical(5, "x", "c"), topical(6, "z", "e"), topical(7, "Uncategorized", "a")]
    held = HeldOutTexts(TableSubject(VECTORS), queries, bank)
    found = run("topic-knn", held, TextTaskConfig(topic_neighbours=1))["accuracy 1 plain"]
    assert found.value == 0.5  # c is an x; a topic that the bank has not is never found
    assert (found.n_query, found.n_gallery, found.labels_used) == (2, 3, 3)


def test_bank_of_topics_is_bounded() -> None:
    bank = [topical(number, "x", "a") for number in range(5)]
    held = HeldOutTexts(TableSubject(VECTORS), [topical(9, "x", "b")], bank)
    assert run("topic-knn", held, TextTaskConfig(bank_documents=3))["accuracy 3 plain"].n_gallery == 3


def test_data_without_topics_say_so() -> None:
    with pytest.raises(TaskUnavailableError, match="'topic'"):
        run("topic-knn", HeldOutTexts(TableSubject(VECTORS), CHAIN, CHAIN))


def test_geometry_is_of_adjacent_sentences() -> None:
    found = run("geometry", HeldOutTexts(TableSubject(VECTORS), CHAIN))
    unit = {text: np.array(vector) / np.linalg.norm(vector) for text, vector in VECTORS.items()}
    pairs = [("a", "b"), ("b", "c"), ("d", "e")]
    expected = np.mean([((unit[one] - unit[two]) ** 2).sum() for one, two in pairs])
    assert found["alignment adjacent"].value == pytest.approx(expected, abs=1e-5)
    assert {"uniformity", "rankme 3"} <= set(found)


def test_rankme_needs_as_many_sentences_as_dimensions() -> None:
    wide = {text: [*vector, 0, 0, 0] for text, vector in VECTORS.items()}
    found = run("geometry", HeldOutTexts(TableSubject(wide), CHAIN))
    assert not any(name.startswith("rankme") for name in found)


def test_sentences_are_embedded_once_for_all_tasks() -> None:
    subject = TableSubject(VECTORS)
    held = HeldOutTexts(subject, CHAIN)
    run("next-sentence", held)
    run("geometry", held)
    assert subject.asked == ["a", "b", "c", "d", "e"]


def test_tf_idf_ranks_and_has_no_geometry() -> None:
    documents = [
        described(1, "the red apple fruit", "an apple is a red fruit", "apple trees bear it"),
        described(2, "the blue ocean water", "an ocean is blue water", "ocean fish live in it"),
    ]
    held = HeldOutTexts(fit_tf_idf(documents, "print"), documents)
    assert run("description-retrieval", held)["recall@1 text"].value == 1.0
    assert run("next-sentence", held)["mrr cosine 4"].value > 0.5
    assert run("geometry", held) == {}
