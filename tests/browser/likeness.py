"""How like two screenshots are, whatever fonts a machine has.

Both are made so small that a cell is 16 pixels wide and high: letters become shades, while boxes,
bars, lines and colours stay where they are. Of the cells at most `MOST_CHANGED` may differ by more
than `CHANGED` in some colour. Measured on the status page: serifs change .0004 of the cells,
letters of one width .017, and a part that went away .055 or more.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

CELL_PIXELS = 16
CHANGED = 32  # of 255
MOST_CHANGED = 0.03
FOLDER = Path(__file__).parent / "screenshots"


def cells_of(screenshot: bytes) -> Image.Image:
    """A screenshot (PNG) as one pixel a cell."""
    with Image.open(io.BytesIO(screenshot)) as picture:
        size = (picture.width // CELL_PIXELS, picture.height // CELL_PIXELS)
        return picture.convert("RGB").resize(size, Image.Resampling.BOX)


def changed_share(screenshot: bytes, stored: Path) -> float:
    """The share of cells that differ; 1 where the sizes do."""
    cells = np.asarray(cells_of(screenshot), np.int16)
    with Image.open(stored) as picture:
        expected = np.asarray(picture.convert("RGB"), np.int16)
    if cells.shape != expected.shape:
        return 1.0
    return float((np.abs(cells - expected).max(axis=2) > CHANGED).mean())
