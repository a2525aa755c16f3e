from __future__ import annotations

import itertools

import torch

from training.streams import Position, Streams

CPU = torch.device("cpu")


def test_a_draw_is_a_function_of_the_place() -> None:
    first, second = (Streams(7).rng("order", epoch=2, step=3, rank=1).random(5) for _ in range(2))

    assert (first == second).all()


def test_numbers_do_not_change_between_versions() -> None:
    # A changed derivation would silently change every resumed run.
    assert Streams(0).number("order") == 267100193621863740
    assert Streams(3).number("views", epoch=1, step=20, rank=2) == 7161636043170084840


def test_no_two_places_share_their_draws() -> None:
    places = itertools.product((0, 1), ("order", "views"), (0, 1, 11), (0, 1, 11), (0, 1))
    numbers = [Streams(s).number(n, epoch=e, step=t, rank=r) for s, n, e, t, r in places]

    assert len(set(numbers)) == len(numbers) == 72
    assert all(0 <= number < 2**63 for number in numbers)


def test_dropout_draws_from_the_step_and_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)

    draws = []
    for step in (4, 5, 4):
        with Streams(0).default_generators("forward", Position(step, 0, step), CPU):
            draws.append(torch.rand(3))

    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(torch.rand(3), expected)


def test_ranks_have_views_of_their_own() -> None:
    streams = Streams(0)
    first, second = (torch.rand(3, generator=streams.generator("views", Position(0, 0, 0, r, 2), CPU)) for r in (0, 1))

    assert not torch.equal(first, second)
