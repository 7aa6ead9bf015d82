"""Figures of Matplotlib as SVG elements of a page.

Each colour of a figure is a role (`INK`, ...) and becomes a class. The style sheet of the page
gives the class its colour, also in dark mode. Style attributes become presentation attributes,
which a strict content security policy allows.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, FAINT, LINE, PLAIN, ALARM, BAND = (f"#0{i}0{i}0{i}" for i in range(1, 7))
"""Roles: text, secondary text, axes, normal data, flagged data, an interval."""
_ROLES = {INK: "ink", FAINT: "faint", LINE: "line", PLAIN: "plain", ALARM: "alarm", BAND: "band"}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_LEFT_OUT = ("metadata", "style")
_FONTS = ("font-family", "font-style", "font-variant", "font-weight", "font-stretch")


def make_figure(width: float = 8.0, height: float = 3.0) -> tuple[Figure, Any]:
    """Return a figure (width and height in inches) and its axes in the style of the report."""
    figure, (axes,) = make_rows(width, height, 1)
    return figure, axes


def make_rows(width: float, height: float, rows: int) -> tuple[Figure, list[Any]]:
    """Return a figure with axes below each other, which share the x axis; see `make_figure`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    every = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axes in every:
        axes.patch.set_visible(False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(LINE)
        axes.tick_params(which="both", color=LINE, labelcolor=FAINT, labelsize=9)
    return figure, every


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Return a figure as an SVG element.

    Parameters
    ----------
    figure : Figure
        Texts and lines have the colours of roles.
    name : str
        Prefix of all ids; unique on the page.
    label : str
        Alternative text.
    """
    sink = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(sink, metadata={"Date": None})
    ET.register_namespace("", _SVG)
    text = re.sub(r"<!DOCTYPE[^>]*>", "", sink.getvalue(), flags=re.DOTALL)
    root = ET.fromstring(text)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {"viewBox": f"0 0 {width} {height}", "class": "chart", "role": "img"}
    root.attrib["aria-label"] = label
    _clean(root, name)
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, name: str) -> None:
    element.tail = None
    for child in list(element):
        if child.tag.removeprefix(f"{{{_SVG}}}") in _LEFT_OUT:
            element.remove(child)
        else:
            _clean(child, name)
    attributes = element.attrib
    _style(attributes)
    if element.tag == f"{{{_SVG}}}g":
        attributes.pop("id", None)  # nothing refers to it
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if _XLINK in attributes:
        attributes["href"] = f"#{name}-{attributes.pop(_XLINK)[1:]}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("(#", f"(#{name}-")


def _style(attributes: dict[str, str]) -> None:
    """Replace styles by attributes and role colours by classes; drop fonts."""
    classes = []
    for part in filter(None, attributes.pop("style", "").split(";")):
        key, _, value = (text.strip() for text in part.partition(":"))
        if value in _ROLES:
            classes.append(f"{key}-{_ROLES[value]}")
        elif key == "font":
            attributes["font-size"] = re.findall(r"([\d.]+)px", value)[0]
        elif key == "font-size":
            attributes[key] = value.removesuffix("px")
        elif key not in _FONTS:
            attributes[key] = value
    if classes:
        attributes["class"] = " ".join(classes)
