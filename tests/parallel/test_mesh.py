"""Meshes: their shapes, and what is refused."""

import jax
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import AXES, MeshConfig, check_rules, make_mesh


def test_more_devices_than_there_are() -> None:
    count = len(jax.devices()) + 1
    message = rf"The mesh slice=1, data={count}, .* has {count} devices but JAX sees \d+: change"
    with pytest.raises(UserError, match=message):
        make_mesh(MeshConfig(data=count))


def test_one_device_has_every_axis() -> None:
    assert dict(make_mesh(MeshConfig()).shape) == dict.fromkeys(AXES, 1)


def test_only_axes_of_several_devices_split() -> None:
    config = MeshConfig(data=4, tensor=2)
    assert config.devices == 8
    assert config.split("batch") == ("data",)
    assert (config.ways("batch"), config.ways("images"), config.ways("embed")) == (4, 8, 1)
    assert config.ways("length") == config.ways(None) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"embd": ("fsdp",)}, r"mesh\.rules\.embd: there is no logical axis 'embd'; .* 'embed'\?"),
        ({"embed": ("fsd",)}, r"mesh\.rules\.embed: there is no mesh axis 'fsd'; .* 'fsdp'\?"),
    ],
)
def test_names_that_mean_nothing(rules: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_rules(rules, frozenset({"embed", "heads"}))
