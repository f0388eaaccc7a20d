"""The user's handle: prompts in, logits, texts, scores, gates and maps out."""

import dataclasses

import jax
import numpy as np
import pytest

from flamingo_jax.checkpoints import smollm2
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.inference.generate import GenerationConfig
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, stack_layers
from flamingo_jax.models.xattn import CrossAttentionConfig
from tests.inference.conftest import SIZE, C, P, quadrants
from tests.tiny_run import tokenizer_file

DRAW = np.random.default_rng(1)
IMAGES = [DRAW.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3)]
PROMPTS = ["<image>a b<|endofchunk|><image>c", "d <image>e", "f g"]
MEDIA = [IMAGES[:2], IMAGES[2:], []]


@pytest.fixture(scope="module")
def handle(tiny, tokenizer) -> Flamingo:
    return Flamingo.from_variables(
        tiny.config, tiny.variables, tokenizer, max_tokens=50, features=quadrants
    )


def test_logits_equal_the_training_model(handle, tiny, tokenizer):
    apply = jax.jit(FlamingoModel(tiny.config).apply)
    for text, media, logits in zip(
        PROMPTS, MEDIA, handle.prompt_logits(PROMPTS, MEDIA), strict=True
    ):
        tokens = np.array([[0, *tokenizer.encode(text)]])
        features = np.zeros((1, 2, 1, P, C), np.float32)
        features[0, : len(media), 0] = quadrants(np.stack(media)) if media else 0
        padded = np.pad(tokens, ((0, 0), (0, 10 - tokens.size)))
        expected = apply(tiny.variables, padded, features, np.cumsum(padded == 1, axis=1))
        np.testing.assert_allclose(logits, expected[0, : tokens.size], atol=2e-5)


def test_a_prompt_does_not_depend_on_its_neighbours(handle):
    together = handle.prompt_logits(PROMPTS, MEDIA)
    for text, media, logits in zip(PROMPTS, MEDIA, together, strict=True):
        np.testing.assert_allclose(handle.prompt_logits([text], [media])[0], logits, atol=1e-5)


def test_closed_gates_do_not_see_the_images(handle):
    closed = handle.with_gates(0.0, 0.0)
    other = [[255 - image for image in media] for media in MEDIA]
    for ours, theirs in zip(
        closed.prompt_logits(PROMPTS, MEDIA), closed.prompt_logits(PROMPTS, other), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(
        handle.prompt_logits(PROMPTS, MEDIA)[0], handle.prompt_logits(PROMPTS, other)[0]
    )


def test_generated_text_is_the_likeliest(handle):
    [text] = handle.generate(PROMPTS[1:2], MEDIA[1:2], max_new_tokens=1)
    logits = handle.prompt_logits(PROMPTS[1:2], MEDIA[1:2])[0][-1]
    assert text == handle.tokenizer.decode([int(logits.argmax())])


@pytest.mark.slow
def test_options_of_generation_by_place_by_name_and_by_default(handle):
    asked = handle.generate(PROMPTS, MEDIA, max_new_tokens=4, num_beams=2)
    assert handle.generate(PROMPTS, MEDIA, 4, 2) == asked
    assert handle.generate(PROMPTS, MEDIA, 4, 2, length_penalty=0.0) == asked
    unasked = handle.generate(PROMPTS, MEDIA)
    assert unasked == handle.generate(PROMPTS, MEDIA, GenerationConfig().max_new_tokens, 1)
    assert unasked != asked


def test_scores_are_of_the_logits(handle):
    scores = handle.score(PROMPTS, MEDIA, [["a<|endofchunk|>", "b"], ["c"], ["d e"]])
    assert [len(row) for row in scores] == [2, 1, 1]
    log_probs = jax.nn.log_softmax(handle.prompt_logits(PROMPTS, MEDIA)[0][-1])
    np.testing.assert_allclose(scores[0][0].token_log_probs[0], log_probs[3], atol=1e-5)
    assert scores[0][0].tokens == (3, 2)


def test_gates(handle):
    gates = handle.gates()
    assert gates["layers"] == [1, 3, 5]
    np.testing.assert_allclose(gates["alpha_xattn"], [0.8] * 3)
    changed = handle.with_gates({3: 0.0}, 0.5).gates()
    np.testing.assert_allclose(changed["alpha_xattn"], [0.8, 0.0, 0.8])
    np.testing.assert_allclose(changed["alpha_dense"], [0.5] * 3)
    assert handle.gates() == gates


def test_attention_maps(handle):
    maps = handle.attention(PROMPTS[0], MEDIA[0])
    assert maps.weights_LxTxNxFxP.shape == (3, 7, 2, 1, P)
    assert maps.layers == (1, 3, 5)
    assert maps.tokens[2] == "a"
    by_medium = maps.weights_LxTxNxFxP.sum((3, 4))
    expected = np.array([[0, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(by_medium, np.broadcast_to(expected, by_medium.shape), atol=1e-5)


def test_a_video_and_an_image_in_one_prompt(handle):
    video = np.stack(IMAGES)
    [mixed] = handle.prompt_logits(["<image>a<image>b"], [[video, IMAGES[0]]])
    [frames] = handle.prompt_logits(["<image>a<image>b"], [[IMAGES, IMAGES[0]]])
    np.testing.assert_array_equal(mixed, frames)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: h.generate("a", []), "list of at least one text"),
        (lambda h: h.generate([], []), "list of at least one text"),
        (lambda h: h.generate(["a"], []), "1 prompts came with images for 0"),
        (lambda h: h.generate(["<image>"], [[]]), "1 <image> markers but 0 images"),
        (lambda h: h.generate(["a"], [[]], beams=3), "no option 'beams'"),
        (lambda h: h.generate(["a"], [[]], max_new_tokens=49), "max_tokens is 50"),
        (lambda h: h.score(["a"], [[]], []), "continuations for 0"),
        (lambda h: h.score(["a"], [[]], [[""]]), "empty"),
        (lambda h: h.with_gates({2: 0.0}), r"Layer 2 .* \[1, 3, 5\]"),
        (lambda h: h.attention("a", []), "at least one image"),
    ],
)
def test_mistakes_are_told_in_one_sentence(handle, call, message):
    with pytest.raises(UserError, match=message) as caught:
        call(handle)
    assert "\n" not in str(caught.value)


def test_pixels_go_through_the_models_own_encoder(handle, tiny, tokenizer):
    own = Flamingo.from_variables(tiny.config, tiny.variables, tokenizer)
    tokens = np.array([[0, *tokenizer.encode(PROMPTS[0])]])
    images = np.stack(MEDIA[0])[None, :, None]
    expected = jax.jit(
        lambda *inputs: FlamingoModel(tiny.config).apply(*inputs, method="from_pixels")
    )(tiny.variables, tokens, images, np.cumsum(tokens == 1, axis=1))
    np.testing.assert_allclose(own.prompt_logits(PROMPTS[:1], MEDIA[:1])[0], expected[0], atol=2e-5)


@pytest.mark.slow
def test_smollm2_through_the_handle(tiny):
    """The frozen language model behind closed gates still knows the capital of France."""
    decoder, top, layers = smollm2.read_language_model(smollm2.find_gguf())
    config = FlamingoConfig(
        vision=tiny.config.vision,
        decoder=decoder,
        resampler=dataclasses.replace(tiny.config.resampler, width=decoder.width),
        xattn=CrossAttentionConfig(2, 16, first=12, every=6),
    )
    images = np.zeros((1, 1, 1, SIZE, SIZE, 3), np.uint8)
    tokens = np.zeros((1, 2), np.int32)
    model = FlamingoModel(config)
    shapes = jax.eval_shape(
        lambda key: model.init(key, tokens, images, tokens, method="from_pixels"), jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes["params"])
    frozen = {"language": {"vocabulary": top, **stack_layers(layers, config)}}
    tokenizer = Tokenizer.load(tokenizer_file())
    model = Flamingo.from_variables(config, {"params": params, "frozen": frozen}, tokenizer)
    [text] = model.generate(["The capital of France is"], [[]], max_new_tokens=8)
    assert text.startswith(" Paris")
