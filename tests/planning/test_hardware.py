"""Topologies: how they are written, and what the TPU compiler makes of them."""

import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.planning.hardware import CHIPS, devices, parse


@pytest.mark.parametrize(
    ("text", "chips", "slices"),
    [
        ("v4:8x8x16", 1024, 1),
        ("v4:8x12x16", 1536, 1),
        ("v5e:4x4", 16, 1),
        ("v5p:2x2x2", 8, 1),
        ("V6E:2x2", 4, 1),
        ("2*v5e:16x16", 512, 2),
    ],
)
def test_the_compiler_knows_a_topologys_chips(text: str, chips: int, slices: int) -> None:
    topology = parse(text)
    assert (topology.chips, topology.slices) == (chips, slices)
    assert str(topology) == text.lower()
    found = devices(topology)
    assert len(found) == chips
    assert len({getattr(device, "slice_index", 0) for device in found}) == slices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v4", "write v4:8x8x16"),
        ("v9:2x2", "no TPU topology of v4, v5e, v5p, v6e"),
        ("v4:2x2", "a slice of v4 has 3 sides, not 2"),
        ("v5e:0x4", "at least 1"),
        ("0*v5e:4x4", "at least 1"),
        ("v4:8 x8x16", "write v4:8x8x16"),
    ],
)
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("*", r"\*")):
        parse(text)


def test_a_slice_that_is_not_made_is_refused() -> None:
    with pytest.raises(UserError, match="--topology=v5e:3x7: the TPU compiler refuses it"):
        devices(parse("v5e:3x7"))


def test_a_v4_pod_of_the_paper_has_its_published_rate() -> None:
    """1,536 chips of 275 TFLOP/s (arXiv:2304.01433, table 4)."""
    assert parse("v4:8x12x16").chips * CHIPS["v4"].flops == pytest.approx(422.4e15)
