"""The evaluation from drawings to files, on a random model and made-up drawings."""

import dataclasses
import json

import numpy as np
import pytest

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tasks import Pool, Turn
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.ceilings import named_requests, nearest_class_means
from flamingo_jax.evaluation.episodes import (
    BLANK,
    FAMILIES,
    MediaTable,
    blanked,
    both_first,
    draw_cases,
    make_requests,
    merge_candidates,
)
from flamingo_jax.evaluation.language import Vocabulary, generate_answers
from flamingo_jax.evaluation.page import write_report
from flamingo_jax.evaluation.run import EvaluationConfig, evaluate, write_results
from flamingo_jax.evaluation.scoring import MediaLatents
from tests.evaluation.tiny import SIZE, tiny_handle, tiny_tokenizer

WHITE = np.full((1, SIZE, SIZE, 3), 255, np.uint8)


def drawings() -> list[Drawing]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(48):
        names = {language: f"{language}{i}-w{9 + i % 30}" for language in ("en", "es", "fr", "de")}
        image = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        category, colour = f"w{10 + i % 9}", ("red", "blue", "green")[i % 3]
        made.append(Drawing(str(i), str(i), names, category, "g", colour, "test", image))
    return made


def pooled(images):
    """Features that tell mean colours, [..., 1, 3]."""
    return images.astype(np.float32).mean((-2, -3))[..., None, :]


@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_share_their_text_and_their_gold(family):
    case = draw_cases(family, Pool(drawings(), "test"), 16, 3, 1, 0)[0]
    table = MediaTable(pooled, WHITE)
    tokenizer = tiny_tokenizer()
    for shots in (0, 1, 16):
        true = make_requests(case, shots, tokenizer, table.key)
        blank = blanked([true])[0]
        for query, a, b in zip(case.queries, true, blank, strict=True):
            assert (a.tokens, a.candidates, a.gold) == (b.tokens, b.candidates, b.gold)
            assert case.candidates[a.gold] == query.answer
            assert [bool(key) for key in a.seen] == [bool(key) for key in b.seen]
            assert set(b.seen) <= {0, BLANK}
            assert BLANK not in a.seen
            assert a.tokens.count(tokenizer.image_id) == (shots + 1) * len(query.media)
    assert len(true[0].candidates) == {"name": 8, "category": 9, "colour": 3}.get(family, 2)


def test_media_follow_the_image_tokens():
    case = draw_cases("same_different", Pool(drawings(), "test"), 2, 1, 1, 0)[0]
    table = MediaTable(pooled, WHITE)
    request = make_requests(case, 2, tiny_tokenizer(), table.key)[0]
    turns = [*case.supports, case.queries[0]]
    expected = [table.key(medium) for turn in turns for medium in turn.media]
    at = [t for t, token in enumerate(request.tokens) if token == 4]
    assert [request.seen[t] for t in at] == expected
    assert request.seen[0] == 0
    assert request.seen[-1] == expected[-1]
    assert table.features()[BLANK].tolist() == [[[255.0] * 3]]


def test_cases_repeat_and_two_shots_show_both_labels():
    pool = Pool(drawings(), "test")
    for family in ("instance_binding", "category_binding", "colour_binding"):
        first, again = (draw_cases(family, pool, 8, 2, 20, 3) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            assert [t.answer for t in a.supports] == [t.answer for t in b.supports]
            labels = [turn.answer for turn in a.supports]
            assert labels[0] != labels[1] or len(set(labels)) == 1


def test_order_and_candidates():
    turns = tuple(Turn((), answer) for answer in "aaba")
    assert [turn.answer for turn in both_first(turns)] == list("abaa")
    assert both_first(turns[:2]) == turns[:2]
    assert merge_candidates(["c", "a", "c"], ["x", "y", "z", "a"]) == ("a", "c", "x", "y")


def test_class_means_find_the_nearest_label():
    case = draw_cases("instance_binding", Pool(drawings(), "test"), 8, 20, 1, 0)[0]
    table = MediaTable(pooled, WHITE)
    for turn in (*case.supports, *case.queries):
        table.key(turn.media[0])
    features = {
        table.key(turn.media[0]): np.full((1, 4, 2), float(turn.answer == case.candidates[0]))
        for turn in (*case.supports, *case.queries)
    }
    assert all(nearest_class_means(case, 2, table.key, features))
    seen = case.supports[0].answer
    alone = nearest_class_means(case, 1, table.key, features)
    assert alone == [query.answer == seen for query in case.queries]


def test_names_stand_where_images_were():
    case = draw_cases("category_binding", Pool(drawings(), "test"), 2, 1, 1, 0)[0]
    tokenizer = tiny_tokenizer()
    request = named_requests(case, 2, tokenizer)[0]
    assert tokenizer.image_id not in request.tokens
    assert not any(request.seen)
    names = [turn.drawings[0].names["en"] for turn in (*case.supports, *case.queries)]
    text = tokenizer.decode(list(request.tokens))
    places = [text.index(name.split("-")[1]) for name in names]
    assert places == sorted(places)
    assert request.tokens.count(tokenizer.eoc_id) == 2


def test_language_is_told_by_words():
    some = dataclasses.replace(
        drawings()[0], names={"en": "red animal", "es": "animal rojo", "fr": "chat", "de": "Katze"}
    )
    vocabulary = Vocabulary([some])
    assert vocabulary.has(" Red", "en")
    assert vocabulary.has("animal", "es")
    assert not vocabulary.has("red cat", "en")
    assert not vocabulary.has("", "en")
    assert vocabulary.chance("en") == pytest.approx(1 / 4)


@pytest.mark.slow
def test_generated_answers_are_the_handles_own():
    case = draw_cases("name", Pool(drawings(), "test"), 2, 2, 1, 0)[0]
    handle = tiny_handle()
    table = MediaTable(pooled, WHITE)
    requests = make_requests(case, 2, handle.tokenizer, table.key)
    media = [[m[0] for turn in (*case.supports, q) for m in turn.media] for q in case.queries]
    encoded = handle._features(
        np.stack([np.stack(row)[:, None] for row in media]).reshape(-1, 1, SIZE, SIZE, 3)
    )
    keys = [table.key(image[None]) for row in media for image in row]
    latents = MediaLatents(handle, dict(zip(keys, encoded, strict=True)))
    found = generate_answers(handle, [*requests, requests[0]], latents)
    turns = "".join(f"<image>Output: {t.answer}<|endofchunk|>" for t in case.supports)
    texts = handle.generate([f"{turns}<image>Output:"] * 2, media, max_new_tokens=12)
    assert found == [texts[0].strip(), texts[1].strip(), texts[0].strip()]


@pytest.mark.slow
def test_whole_evaluation_and_its_report(tmp_path):
    config = EvaluationConfig(
        shots=(0, 2, 8), episodes=3, queries=2, tokens=160, media=24, logits=160, targets=480
    )
    found = evaluate(tiny_handle(), drawings(), config, "test", progress=False)
    (tmp_path / "config.json").write_text("{}")
    write_results(tmp_path, found, "test")
    rows = json.loads((tmp_path / "results.json").read_text())
    scored = {(r["benchmark"], r["shots"], r["metric"], r["images"]) for r in rows}
    assert len(scored) == len(rows) == 7 * 3 * 3 * 2 + 3 + 3 * (2 + 1)
    for row in rows:
        assert row["ci95"][0] <= row["score"] <= row["ci95"][1]
        assert row["queries"] == 6
        if row["metric"] == "log_likelihood":
            count = {"name": 8, "category": 9, "colour": 3}.get(row["benchmark"], 2)
            assert row["chance"] == pytest.approx(1 / count, abs=1e-4)
    page = write_report(tmp_path).read_text()
    assert "before layer 3" in page
    assert "names as text" in page
    assert (tmp_path / "results.png").stat().st_size > 1000


def test_split_without_drawings():
    with pytest.raises(UserError, match="validation"):
        evaluate(tiny_handle(), drawings(), EvaluationConfig(), "validation")


@pytest.mark.parametrize(
    "wrong", [{"families": ("nonsense",)}, {"shots": (-1,)}, {"shots": ()}, {"episodes": 0}]
)
def test_wrong_configs_are_refused(wrong):
    with pytest.raises(UserError, match="evaluation"):
        EvaluationConfig(**wrong)
