"""A small project whose notebooks take a moment: what is tested is the way through them, not what they do."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rowmill import settings
from rowmill.settings import Settings

from tests.conftest import ROOT

STEPS = """
steps:
  grow: {notebook: grow, makes: [service, apples], files: [apples.txt], reads: [source]}
  press: {notebook: press, needs: [grow.apples], makes: [juice], packages: [fruit]}
  taste: {notebook: taste, needs: [press.juice], settings: [gate.level], makes: [verdict]}
  sell: {notebook: sell, needs: [taste.verdict], makes: [sold], deploys: true}
  count: {notebook: count, needs: [grow.apples], makes: [counted]}
  report: {notebook: report, needs: [count.counted], after: [sell], makes: [told], optional: true}
"""
_HAND_ON = "import json\nfrom pathlib import Path\nresult and Path(result).write_text(json.dumps({{{values}}}))"
_LOG = "from pathlib import Path\nwith Path('log').open('a') as file:\n    _ = file.write('{name} ')"
_CODE = {
    "grow": (
        "source = 'digits'\ntrees = 2\nservice = ''",
        "Path('apples.txt').write_text('apples')\napples = 10 * trees",
        "'service': 'fruit', 'apples': apples",
    ),
    "press": ("apples = 0\nforce = 1.0\nfail = False", "juice = apples * force\nassert not fail, 'the press broke'", "'juice': juice"),
    "taste": ("juice = 0.0\nsweet = 5", "verdict = 'better' if juice > sweet else 'worse'", "'verdict': verdict"),
    "sell": ("price = 1", "sold = price", "'sold': sold"),
    "count": ("apples = 0", "counted = apples > 0", "'counted': counted"),
    "report": ("counted = False\nwait = 0.0", "import time\ntime.sleep(wait)", "'told': counted"),
}


def cell(source: str, *tags: str) -> dict[str, object]:
    """Return a code cell."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": str(abs(hash(source)))[:8],
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "source": source,
    }


def write_notebook(path: Path, parameters: str, cells: Sequence[str], values: str) -> None:
    """Write a notebook that logs its name, runs some cells and hands on values."""
    code = [_LOG.format(name=path.stem), *cells, _HAND_ON.format(values=values)]
    whole = [cell(f"{parameters}\nresult = ''", "parameters"), *(cell(source) for source in code)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    path.write_text(json.dumps({"cells": whole, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def make(folder: Path, steps: str = STEPS) -> Settings:
    """Lay the project into a folder."""
    (folder / "notebooks").mkdir(parents=True)
    for name, (parameters, code, values) in _CODE.items():
        write_notebook(folder / "notebooks" / f"{name}.ipynb", parameters, [code], values)
    (folder / "pipeline.yaml").write_text(steps)
    shutil.copy(ROOT / "rowmill.toml", folder)
    return settings.load(folder)


def edit(mill: Settings, name: str, old: str, new: str) -> None:
    """Change a notebook."""
    path = mill.root / "notebooks" / f"{name}.ipynb"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def ran(mill: Settings) -> list[str]:
    """Return which notebooks ran since this was asked last, in their order."""
    log = mill.root / "log"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def declare(mill: Settings, changes: Mapping[str, str]) -> None:
    """Change `pipeline.yaml`."""
    path = mill.root / "pipeline.yaml"
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
