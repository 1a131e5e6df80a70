"""The report as one HTML page. It needs no other file, and no script."""

from pathlib import Path

from model_bundle import drift
from model_export import page
from model_export import plots as drawing
from model_export.drift import plots
from model_export.drift.report import Report

_AT_LEAST = 8


def render(report: Report) -> str:
    """Return the page.

    It has a plot of the score, of each feature that has drifted, and of the next ones up to eight.
    """
    pictured = [
        each
        for place, each in enumerate(report.compared)
        if place < _AT_LEAST or each.judgement.level in {"moderate", "great"}
    ]
    with drawing.drawing():
        overview = page.embedded(plots.indices(report.compared))
        pictures = [(each, page.embedded(plots.shares(each))) for each in pictured]
    template = page.template(Path(__file__).with_name("page.html"))
    return template.render(report=report, drift=drift, overview=overview, pictures=pictures) + "\n"
