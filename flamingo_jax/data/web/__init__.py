"""Pages of the web as documents: text and images in the order of the page."""
