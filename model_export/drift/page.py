"""The report as one HTML page. It needs no other file, and no script."""

import base64
from pathlib import Path

import jinja2

from model_bundle import drift
from model_export import plots as drawing
from model_export.drift import plots
from model_export.drift.report import Report

_AT_LEAST = 8


def render(report: Report) -> str:
    """Return the page.

    It has a plot of the score, of each feature that has drifted, and of the next ones up to eight.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictured = [
        each
        for place, each in enumerate(report.compared)
        if place < _AT_LEAST or each.judgement.level in {"moderate", "great"}
    ]
    with drawing.drawing():
        overview = _embedded(plots.indices(report.compared))
        pictures = [(each, _embedded(plots.shares(each))) for each in pictured]
    page = environment.get_template("page.html").render(
        report=report, drift=drift, overview=overview, pictures=pictures
    )
    return page + "\n"


def _embedded(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
