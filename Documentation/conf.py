# SPDX-License-Identifier: GPL-2.0
#
# How Sphinx makes a book of the .rst files here:
#	sphinx-build -W Documentation build/doc

project = "cowpool"
author = "the cowpool authors"
copyright = author

extensions = []
exclude_patterns = []
highlight_language = "none"

html_theme = "alabaster"
html_theme_options = {
    "description": "copy-on-write memory pools",
    "fixed_sidebar": True,
}
html_show_sourcelink = False
html_show_sphinx = False
