"""Generators that come in and go out: checkpoint files of other projects, own generators, exported files."""
