"""The tutorial: pages that run, their pictures, the site and the notebooks made of them."""

from diptych.learn.picture import Picture, picture

__all__ = ["Picture", "picture"]
