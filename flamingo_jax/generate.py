"""Continues a prompt with a trained model.

    python -m flamingo_jax.generate --model=runs/openmoji \\
        --prompt='<image>Output: cat<|endofchunk|><image>Output:' --image=a.png --image=b.png
"""

from absl import flags

from flamingo_jax import cli
from flamingo_jax.inference.generate import GenerationConfig
from flamingo_jax.runs import load

_DEFAULT = GenerationConfig()
_MODEL = flags.DEFINE_string("model", None, "Work directory of a training run.", required=True)
_PROMPT = flags.DEFINE_string(
    "prompt", None, "Text with <image> where each image is shown.", required=True
)
_IMAGE = flags.DEFINE_multi_string(
    "image", [], "PNG, JPEG, WebP, GIF or MP4 file; once for each <image>, in order."
)
_OPTIONS = {
    "max_new_tokens": flags.DEFINE_integer(
        "max_new_tokens", _DEFAULT.max_new_tokens, "Most tokens to generate."
    ),
    "num_beams": flags.DEFINE_integer(
        "num_beams", _DEFAULT.num_beams, "Hypotheses of beam search; 1 for greedy or sampling."
    ),
    "length_penalty": flags.DEFINE_float(
        "length_penalty", _DEFAULT.length_penalty, "Beam search: power of the length to divide by."
    ),
    "temperature": flags.DEFINE_float(
        "temperature", _DEFAULT.temperature, "Of sampling; 0 takes the most likely token."
    ),
    "top_k": flags.DEFINE_integer(
        "top_k", _DEFAULT.top_k, "Sample from the k most likely tokens; 0 for all."
    ),
    "top_p": flags.DEFINE_float(
        "top_p", _DEFAULT.top_p, "Sample from the most likely tokens that reach this probability."
    ),
    "seed": flags.DEFINE_integer("seed", _DEFAULT.seed, "Of sampling."),
}
_MAX_TOKENS = flags.DEFINE_integer(
    "max_tokens", None, "Most tokens of the prompt and its continuation; else the model's own."
)


def main() -> None:
    """Prints the continuation."""
    options = {name: flag.value for name, flag in _OPTIONS.items()}
    GenerationConfig(**options)  # refused before the model is loaded
    model = load(_MODEL.value, _MAX_TOKENS.value)
    print(model.generate([_PROMPT.value], [_IMAGE.value], **options)[0].strip())


if __name__ == "__main__":
    cli.run(main)
