"""Answers by trunks and branches against one prompt at a time, and their programs."""

import dataclasses
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import answering
from flamingo_jax.evaluation.answering import Answerer
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.evaluation.packing import Ask
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.inference.prompt import prompt_tokens
from tests.evaluation.tiny import SIZE, tiny_handle

SUPPORTS = ("<image>Output: a w9<|endofchunk|>", "<image>Output: b w11<|endofchunk|>")
QUERIES = ("<image>Output:", "<image>Output: c", "w13<image>w12 Output:", "<image>Output:")
CANDIDATES = ("a", "a b", "w20 w21")
NEW, BEAMS = 5, 3


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)


def medium(number: int) -> Media:
    return Media(Path(f"{number}"))


def store(handle: Flamingo) -> LatentStore:
    return LatentStore(handle, lambda shown: picture(int(shown.path.name)))


@pytest.fixture(scope="module")
def handle() -> Flamingo:
    return tiny_handle()


def asks(handle: Flamingo, weighed: bool, supports=SUPPORTS) -> list[Ask]:
    tokenizer = handle.require_tokenizer()
    trunk = "".join(supports)
    ids = tuple(tuple(tokenizer.encode(f" {word}")) for word in CANDIDATES) if weighed else ()
    return [
        Ask(
            prompt_tokens(trunk + query, tokenizer),
            tuple(medium(i) for i in (*range(len(supports)), 5 + number)),
            len(prompt_tokens(trunk, tokenizer)),
            ids,
        )
        for number, query in enumerate(QUERIES)
    ]


def prompts(supports=SUPPORTS) -> tuple[list[str], list[list[np.ndarray]]]:
    texts = ["".join(supports) + query for query in QUERIES]
    shown = [[picture(i) for i in (*range(len(supports)), 5 + n)] for n in range(len(QUERIES))]
    return texts, shown


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_written_answers_are_those_of_one_prompt_at_a_time(handle: Flamingo, shared: bool) -> None:
    answerer = Answerer(handle, store(handle), 4, BEAMS, NEW)
    tokenizer = handle.require_tokenizer()
    (found,) = answerer([asks(handle, False)], shared)
    options = {"max_new_tokens": NEW, "num_beams": BEAMS}
    expected = handle.generate(*prompts(), **options)
    assert [tokenizer.decode(list(reply.tokens)) for reply in found] == expected


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_candidates_weigh_as_much_as_one_prompt_at_a_time(handle: Flamingo, shared: bool) -> None:
    answerer = Answerer(handle, store(handle), 4, BEAMS, NEW)
    (found,) = answerer([asks(handle, True)], shared)
    # " a" goes on to " a b": its end is weighed too, so that only one of them can be true.
    ends = [[" a<|endofchunk|>", " a b", " w20 w21"]] * len(QUERIES)
    expected = [[s.log_likelihood for s in row] for row in handle.score(*prompts(), ends)]
    np.testing.assert_allclose([reply.log_probs for reply in found], expected, rtol=2e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_tile_of_too_many_nodes_runs_in_parts(
    handle: Flamingo, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer, ran = Answerer(handle, store(handle), 4, BEAMS, NEW), []
    (whole,) = answerer([asks(handle, True)], shared)
    run = answerer._run
    monkeypatch.setattr(
        answerer, "_run", lambda parts, *rest: ran.extend(map(len, parts)) or run(parts, *rest)
    )
    monkeypatch.setattr(answering, "_NODES", 12 if shared else 64)
    (parts,) = answerer([asks(handle, True)], shared)
    assert len(ran) > 1
    if not shared:
        assert ran == [2, 2]  # of 32 nodes each
    expected = [reply.log_probs for reply in whole]
    np.testing.assert_allclose([reply.log_probs for reply in parts], expected, rtol=2e-5)
    tiles = [asks(handle, True), asks(handle, True)[:3]][: answerer.together]
    assert answerer(tiles, shared)[0] == parts  # whatever runs beside it


def test_a_query_of_the_same_tile_may_have_other_supports(handle: Flamingo) -> None:
    """The words are the same, one picture is not."""
    given = asks(handle, True)
    given[1] = dataclasses.replace(given[1], media=(medium(0), medium(9), given[1].media[-1]))
    texts, shown = prompts()
    shown[1][1] = picture(9)
    answerer = Answerer(handle, store(handle), 4, BEAMS, NEW)
    (found,) = answerer([given], True)
    ends = [[" a<|endofchunk|>", " a b", " w20 w21"]] * len(QUERIES)
    expected = [[s.log_likelihood for s in row] for row in handle.score(texts, shown, ends)]
    np.testing.assert_allclose([reply.log_probs for reply in found], expected, rtol=2e-5)


def test_a_model_that_sees_all_media_sees_them_here_too() -> None:
    tiny = tiny_handle()
    xattn = dataclasses.replace(tiny.config.xattn, sees="all")
    handle = dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, xattn=xattn))
    answerer = Answerer(handle, store(handle), 4, BEAMS, NEW)
    (found,) = answerer([asks(handle, True)], True)
    ends = [[" a<|endofchunk|>", " a b", " w20 w21"]] * len(QUERIES)
    expected = [[s.log_likelihood for s in row] for row in handle.score(*prompts(), ends)]
    np.testing.assert_allclose([reply.log_probs for reply in found], expected, rtol=2e-5)


def test_other_tiles_compile_nothing_and_give_the_same_bits(handle: Flamingo) -> None:
    """A tile's answers depend on its own prompts, not on what was known or run before."""
    latents = store(handle)
    answerer = Answerer(handle, latents, 4, BEAMS, NEW)
    all_asks = asks(handle, True)
    (first,) = answerer([all_asks], True)
    compiled = [answerer._programs.grow, answerer._programs.score]
    sizes = [program._cache_size() for program in compiled]
    for order in itertools.islice(itertools.permutations(all_asks), 1, 5):
        answerer([list(order)], True)
    (again,) = Answerer(handle, store(handle), 4, BEAMS, NEW)([all_asks], True)
    assert again == first
    assert [program._cache_size() for program in compiled] == sizes


def test_a_trunk_is_run_once_for_many_tiles(handle: Flamingo) -> None:
    answerer = Answerer(handle, store(handle), 4, BEAMS, NEW)
    runs, grow = [], answerer._programs.grow

    def counted(*arguments):
        runs.append(arguments)
        return grow(*arguments)

    answerer._programs = dataclasses.replace(answerer._programs, grow=counted)
    for _ in range(3):
        answerer([asks(handle, True)], True)
    assert len(runs) == 1
    for _ in range(3):
        answerer([asks(handle, True)], False)
    assert len(runs) == 4


def test_a_prompt_that_is_too_long_is_told(handle: Flamingo) -> None:
    short = dataclasses.replace(handle, text=dataclasses.replace(handle.text, max_tokens=12))
    answerer = Answerer(short, store(short), 4, BEAMS, NEW)
    with pytest.raises(UserError, match="but the model takes 12: take fewer --shots"):
        answerer([asks(handle, False)], True)


def test_devices_are_those_of_the_process(handle: Flamingo) -> None:
    assert Answerer(handle, store(handle), 4, 1, 2).together == len(jax.local_devices())
