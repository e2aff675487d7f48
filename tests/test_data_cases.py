"""Scripts of tests/cases on data and teachers as people have them, on the real command."""

from pathlib import Path

import pytest
from test_cases import command, ran  # noqa: F401

NAMES = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "13", "18", "25", "27")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_case_of_data_or_of_a_teacher(
    name: str,
    command: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    ran(command, name, tmp_path / "w")
