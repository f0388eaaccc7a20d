"""Figures of stages: the score, its interval and each query's own score."""

from pathlib import Path

import numpy as np

from flamingo_jax.evaluation.benchmark import Answer, Example, Media, Score
from flamingo_jax.evaluation.results import figure, interval
from flamingo_jax.evaluation.suite import Done, SuiteConfig
from tests.evaluation.toy import Chosen, Written

CONFIG = SuiteConfig(("written",), supports="rices")


def examples(count: int, groups: int = 0) -> list[Example]:
    media = (Media(Path("x")),)
    return [
        Example(str(i), media, answers=("a",), group=str(i % groups) if groups else "")
        for i in range(count)
    ]


def test_a_figure_is_the_benchmarks_score_and_lines_get_their_own() -> None:
    lines = [{"answer": "a" if i % 4 else "b", "score": None} for i in range(40)]
    done = Done(Written(), ("written", 4, 1), examples(40), lines, 2.345)
    found = figure(done, CONFIG, "c", "w")
    assert found.score == 0.75
    assert 0.55 < found.ci95[0] < 0.75 < found.ci95[1] < 0.95
    assert [line["score"] for line in lines[:5]] == [0.0, 1.0, 1.0, 1.0, 0.0]
    row = found.to_json()
    assert (row["shots"], row["seed"], row["queries"]) == (4, 1, 40)
    assert (row["supports"], row["split"], row["seconds"]) == ("rices", "test", 2.3)
    assert (row["config_hash"], row["checkpoint_hash"]) == ("c", "w")


def test_queries_of_a_group_are_drawn_together() -> None:
    values = np.repeat([0.0, 1.0], 50)
    queries = examples(100)
    grouped = [
        Example(q.id, q.media, answers=q.answers, group=str(int(v)))
        for q, v in zip(queries, values, strict=True)
    ]
    score = Score(0.5, values)
    alone = interval(Written(), queries, [], score)
    together = interval(Written(), grouped, [], score)
    assert alone[1] - alone[0] < 0.25
    assert together == (0.0, 1.0)


def test_a_score_that_is_no_mean_is_computed_anew_for_each_draw() -> None:
    class Share(Chosen):
        def score(self, examples, answers):
            return Score(float(np.mean([a.log_probs[0] for a in answers])) ** 2)

    replies = [Answer(log_probs=(float(i % 2),)) for i in range(64)]
    low, high = interval(Share(), examples(64), replies, Score(0.25))
    assert 0.1 < low < 0.25 < high < 0.45
    spread = 2 * 1.96 * 2 * 0.5 * (0.5 / 8)  # delta method, d(m²) = 2 m dm
    assert abs((high - low) - spread) < 0.35 * spread


def test_a_group_that_is_drawn_twice_is_two() -> None:
    class Groups(Chosen):
        def score(self, examples, answers):
            return Score(float(len({example.group for example in examples})))

    assert interval(Groups(), examples(20, 5), [Answer()] * 20, Score(5.0)) == (5.0, 5.0)
