"""What a page and an image must be to be kept."""

import dataclasses

from flamingo_jax.data.media import MOST_PIXELS


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of the extraction; the sizes of images are those of M3W (arXiv:2204.14198, §A.3.1).

    Attributes:
      min_side: shortest side of an image, in pixels.
      max_aspect: longest side by shortest.
      min_contrast: an image is of a single colour if no channel spans more than this, of 255.
      max_pixels: of an image, all its frames together.
      max_image_bytes: of an image file.
      max_images: references to images of a page that are looked up; the others are left out.
      max_document_bytes: of all images of a page; the others are left out.
      max_page_bytes: of a page's HTML.
      max_characters: of a page's text.
      min_words: of a page's text.
      similarity: share of two pages' runs of three words from which the later one is a duplicate.
      max_repeats: an image on more pages is on none, as a part of the site's furniture; on fewer
        it stays on the first.
      evaluation_distance: bits of 64 by which an image's perceptual hash may differ from one of an
        evaluation set that it is taken for.
    """

    min_side: int = 64
    max_aspect: float = 3.0
    min_contrast: int = 8
    max_pixels: int = MOST_PIXELS
    max_image_bytes: int = 20_000_000
    max_images: int = 200
    max_document_bytes: int = 100_000_000
    max_page_bytes: int = 10_000_000
    max_characters: int = 500_000
    min_words: int = 10
    similarity: float = 0.8
    max_repeats: int = 10
    evaluation_distance: int = 4
