"""Puts the tutorial's sources into the wheel; an editable install has them at hand."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("mkdocs.yml", "docs")


class Tutorial(BuildHookInterface):
    """Hatch's hook."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Names what goes along, and where to."""
        if version != "editable":
            build_data["force_include"] |= {
                name: f"diptych/learn/tutorial/{name}" for name in SOURCES
            }
