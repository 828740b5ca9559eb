"""The documentation site: `make docs`. The pages themselves are readable without it."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

from photometrus import __version__  # noqa: E402

project = "photometrus"
author = "the photometrus developers"
copyright = "the photometrus developers, BSD 3-Clause"  # noqa: A001 - Sphinx calls it that
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
highlight_language = "text"  # commands; Python says so
smartquotes = False  # words are copied from here

# ---------------------------------------------------------------- pages

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# Pages that are made of files beside docs/, and how links from here lead there.
BESIDE = {"readme": "README.md", "changelog": "CHANGELOG.md"}

# ---------------------------------------------------------------- the notebook

os.environ.setdefault("PHOTOMETRUS_DISTORTIONS", "none")  # what the reader's nights said stays out
nb_execution_mode = os.environ.get("PHOTOMETRUS_DOCS_NOTEBOOK", "force")  # or "off"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# ---------------------------------------------------------------- the API

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# ---------------------------------------------------------------- the look

html_theme = "furo"
html_title = f"photometrus {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c8c", "color-brand-content": "#0b5c8c"},
    "dark_css_variables": {"color-brand-primary": "#6cb8e6", "color-brand-content": "#6cb8e6"},
}
pygments_style, pygments_dark_style = "friendly", "native"
copybutton_prompt_text = "$ "


def beside(app, docname, source):
    """The README and the changelog as pages; links to pages bear their titles, not file names."""
    text = source[0]
    if docname in BESIDE:
        text = (HERE.parent / BESIDE[docname]).read_text(encoding="utf-8")
        text = text.replace("](docs/", "](").replace("[LICENSE](LICENSE)", "LICENSE")
    for page, name in BESIDE.items():
        text = re.sub(rf"\]\((?:\.\./)?{name}(?=[#)])", f"]({page}.md", text)
    source[0] = re.sub(r"\[(?:docs/)?[\w-]+\.md\]\(", "[](", text)


def attributes(app, what, name, obj, options, lines):
    """Lines ``name : words`` of a class's docstring as a list."""
    if what != "class":
        return
    made, within = [], False
    for line in lines:
        found = re.match(r"(\w+(?:, \w+)*) : (.+)", line)
        if found:
            made += [""] * (not within) + [f"- ``{found[1]}``: {found[2]}"]
            within = True
        else:
            made.append(line)
            within = within and line.startswith("  ")
    lines[:] = made


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", beside)
    app.connect("autodoc-process-docstring", attributes)
