"""Notebooks of the docs: their cells are run in order, as Jupyter would, and what they show is kept.

`python tests/notebook.py NOTEBOOK FOLDER` runs one in a folder and writes its outputs into the file.
"""

import ast
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run_cells(notebook: Path, folder: Path) -> list[list[Any]]:
    """What each code cell of a notebook shows, run in a folder: printed text, then its last value.

    What a cell raises is raised.
    """
    cells = json.loads(notebook.read_text())["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        return [_run("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]


def _run(source: str, names: dict[str, Any]) -> list[Any]:
    tree, value, printed = ast.parse(source), None, io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return [*filter(None, [printed.getvalue()]), *([] if value is None else [value])]


def _output(shown: Any) -> dict[str, Any]:
    """What is kept of a cell: text, or a picture as PNG."""
    if isinstance(shown, str):
        return {"output_type": "stream", "name": "stdout", "text": shown.splitlines(keepends=True)}
    data: dict[str, Any] = {"text/plain": repr(shown).splitlines(keepends=True)}
    if (picture := _png(shown)) is not None:
        data = {"image/png": base64.b64encode(picture).decode(), "text/plain": [f"<{type(shown).__name__}>"]}
    return {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}


def _png(shown: Any) -> bytes | None:
    """A picture or plotly figure as PNG; None: it is neither."""
    from PIL import Image, ImageOps
    from plotly.graph_objects import Figure

    if isinstance(shown, Image.Image):
        file = io.BytesIO()
        shown.save(file, "PNG", optimize=True)
        return file.getvalue()
    if not isinstance(shown, Figure):
        return None
    from browser import CHROMIUM

    assert CHROMIUM is not None, "a figure is kept as a browser draws it"
    with tempfile.TemporaryDirectory() as folder:
        page, file_name = Path(folder) / "figure.html", Path(folder) / "figure.png"
        shown.update_layout(paper_bgcolor="white").write_html(page, config={"displayModeBar": False})
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=20000"]
        flags += [f"--screenshot={file_name}", "--window-size=760,480", f"--user-data-dir={folder}/profile"]
        subprocess.run([CHROMIUM, *flags, page.as_uri()], check=True, capture_output=True, timeout=300)
        with Image.open(file_name) as image:
            small, drawn = io.BytesIO(), ImageOps.invert(image.convert("L")).getbbox()
            image.crop(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
                small, "PNG", optimize=True
            )
        return small.getvalue()


def main(notebook: Path, folder: Path) -> None:
    shown, content = run_cells(notebook, folder), json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for number, (cell, outputs) in enumerate(zip(code, shown, strict=True), 1):
        cell["execution_count"] = number
        cell["outputs"] = [_output(each) for each in outputs]
        for each in cell["outputs"]:
            if "execution_count" in each:
                each["execution_count"] = number
    text = json.dumps(content, indent=1, ensure_ascii=False)
    notebook.write_text(text.replace(f"{folder.absolute()}/", "") + os.linesep)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
