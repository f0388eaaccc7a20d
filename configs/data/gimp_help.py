"""The manual of GIMP as interleaved pages: 685 pages with 1,600 images, from Debian's archive.

    python -m flamingo_jax.data.extract --config=configs/data/gimp_help.py --output=runs/gimp_help

The manual is by the GIMP documentation team, GNU Free Documentation License 1.2 or later.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Fields of `flamingo_jax.data.web.settings.Recipe`."""
    folder = "runs/debian/gimp-help-en"
    return ml_collections.ConfigDict(
        dict(
            package="gimp-help-en",
            folder=folder,
            input=(f"{folder}/usr/share/gimp/2.0/help/en",),
            languages=("en",),
            # An example's original is shown on the page of each filter that is tried on it.
            limits=dict(max_repeats=1_000),
        )
    )
