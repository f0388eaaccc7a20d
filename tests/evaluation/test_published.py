"""Published figures, spot by spot against the papers' tables."""

from flamingo_jax.evaluation.published import Published, published


def score(benchmark: str, model: str, shots: int, supports: str = "random") -> float:
    entries = published()[benchmark]
    (found,) = [e.score for e in entries if e[:3] == (model, shots, supports)]
    return found


def test_figures_are_the_papers() -> None:
    assert score("coco", "Flamingo-80B", 32) == 113.8
    assert score("vqav2", "Flamingo-9B", 0) == 51.8
    assert score("rareact", "Flamingo-3B", 0) == 58.4
    assert score("textvqa", "Flamingo-80B", 16) == 37.6
    assert score("coco", "OpenFlamingo-9B", 32, "rices") == 109.0
    assert score("vqav2", "OpenFlamingo-9B", 4) == 54.8


def test_every_benchmark_of_table_1_is_there_and_nothing_twice() -> None:
    assert len(published()) == 16
    for entries in published().values():
        assert len({e[:3] for e in entries}) == len(entries)
        assert all(isinstance(e, Published) and 0 < e.score < 150 for e in entries)
    shots = {e.shots for e in published()["visdial"]}
    assert shots == {0, 4, 8, 16}
