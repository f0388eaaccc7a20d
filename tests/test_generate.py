"""The generate command and `flamingo_jax.load` on a trained work directory."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flamingo_jax
from flamingo_jax.data.media import encode_gif
from flamingo_jax.inference.handle import Flamingo
from tests.tiny_run import finished, python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_run() -> Path:
    return finished()


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Flamingo:
    return flamingo_jax.load(tiny_run)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    return path


def generate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python("flamingo_jax.generate", f"--model={folder}", *options)


def test_the_command_prints_what_python_returns(
    tiny_run: Path, model: Flamingo, picture: Path
) -> None:
    prompt = "<image>Output: cat<|endofchunk|><image>Output:"
    options = [f"--prompt={prompt}", f"--image={picture}", f"--image={picture}"]
    done = generate(tiny_run, *options, "--max_new_tokens=4", "--num_beams=2")
    assert (done.returncode, done.stderr) == (0, "")
    [text] = model.generate([prompt], [[picture, picture]], max_new_tokens=4, num_beams=2)
    assert done.stdout == f"{text.strip()}\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--prompt=<image>a<image>b", "--image={picture}"],
            "The prompt has 2 <image> markers but 1 images were given: "
            "give one image for each marker.",
        ),
        (["--prompt=<image>a", "--image={folder}/b.png"], "{folder}/b.png cannot be read: "),
        (["--prompt=<image>a", "--image={folder}"], "{folder} cannot be read: Is a directory."),
        (
            ["--prompt=<image>a", "--image={picture}", "--max_tokens=8"],
            "Prompt 1 has 3 tokens and 32 are to follow, but max_tokens is 8: shorten the prompt, ",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    tiny_run: Path, picture: Path, options: list[str], sentence: str
) -> None:
    names = {"picture": picture, "folder": picture.parent}
    done = generate(tiny_run, *(option.format(**names) for option in options))
    assert done.returncode == 1
    assert done.stderr.startswith(sentence.format(**names))
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_formats_without_loss_say_the_same(model: Flamingo, tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    path = tmp_path / "picture"
    image.save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    prompt = "<image>Output:"
    np.testing.assert_allclose(
        model.prompt_logits([prompt], [[path]])[0],
        model.prompt_logits([prompt], [[image]])[0],
        atol=1e-4,
    )


def test_an_animated_gif_is_seen_as_a_video(model: Flamingo, tmp_path: Path) -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, 20 * i : 20 * i + 20] = 255
    path = tmp_path / "clip.gif"
    path.write_bytes(encode_gif(frames))
    prompt = "<image>Output:"
    np.testing.assert_allclose(
        model.prompt_logits([prompt], [[path]])[0],
        model.prompt_logits([prompt], [[frames]])[0],
        atol=1e-4,
    )
    still = model.prompt_logits([prompt], [[frames[0]]])[0]
    assert np.abs(model.prompt_logits([prompt], [[path]])[0] - still).max() > 1e-3


def test_a_text_without_images_and_an_empty_one(model: Flamingo) -> None:
    """Nothing at all is continued from the token that begins every sequence."""
    texts = model.generate(["The cat", ""], [[], []], max_new_tokens=3)
    first = int(model.prompt_logits([""], [[]])[0][-1].argmax())
    assert texts[1].startswith(model.tokenizer.decode([first]))
    assert len(texts) == 2
