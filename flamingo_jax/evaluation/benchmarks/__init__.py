"""The published benchmarks, by name."""

from flamingo_jax.evaluation.benchmarks.classes import (
    HatefulMemes,
    ImageNet,
    Kinetics700,
    RareAct,
)
from flamingo_jax.evaluation.benchmarks.dialogues import VisDial
from flamingo_jax.evaluation.benchmarks.digits import Digits
from flamingo_jax.evaluation.benchmarks.emoji import NotoEmoji, Openmoji
from flamingo_jax.evaluation.benchmarks.image_questions import Okvqa, Textvqa, Vizwiz, Vqav2
from flamingo_jax.evaluation.benchmarks.images import Coco, Flickr30k
from flamingo_jax.evaluation.benchmarks.published import Published
from flamingo_jax.evaluation.benchmarks.video_captions import Vatex, Youcook2
from flamingo_jax.evaluation.benchmarks.video_questions import (
    Ivqa,
    MsrvttQa,
    MsvdQa,
    NextQa,
    NextQaChoices,
    Star,
)

BENCHMARKS: dict[str, Published] = {
    benchmark.name: benchmark
    for benchmark in (
        Okvqa(),
        Vqav2(),
        Coco(),
        MsvdQa(),
        Vatex(),
        Vizwiz(),
        Flickr30k(),
        MsrvttQa(),
        Ivqa(),
        Youcook2(),
        Star(),
        VisDial(),
        Textvqa(),
        NextQa(),
        NextQaChoices(),
        HatefulMemes(),
        RareAct(),
        ImageNet(),
        Kinetics700(),
    )
}
"""In the order of Flamingo's table."""

OTHERS: dict[str, Published] = {
    benchmark.name: benchmark for benchmark in (Digits(), Openmoji(), NotoEmoji())
}
"""Not of the paper; `all` leaves them out."""
