"""What every HTML page here is made of: a template beside the code that fills it, and pictures within."""

import base64
from pathlib import Path

import jinja2


def template(file: Path) -> jinja2.Template:
    """Return a template. It may include others of its folder, and fails where a name has no value."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(file.name)


def embedded(svg: bytes) -> str:
    """Return a picture as an address that holds it: the page needs no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
