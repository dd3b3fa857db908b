"""Texts that mean something else wherever they are shown, and what each destination makes a reader see of them."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

from markdown_it import MarkdownIt

TERMINAL = [
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\x00b",
    "a\rb",
    "back\x08\x08",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "\u2066x\u2069",
    "a\u2028b",
    "\ud800",
    "\ue000",
    "tab\tand\nline",
]
"""Characters that drive a terminal or hide; names with them are refused, captions show them as marks."""

MARKUP = [
    *("[/x]", "[red]red[/red]", "[link=http://a.b]x[/link]", ":skull:", r"\[bold]", "[", "]", "\\"),
    *(r"$\evil$", "$x$", "a $ b", "$$", r"\$", r"\\$x^2$", "_hidden", "_", "$", "100% & #1_2^3~4{5}"),
    *("[x](javascript:alert(1))", "![x](http://a.b/c.png)", "<http://a.b>", "www.a.b", "http://a.b", "`code`", "**b**"),
    *("_i_", "~~s~~", "a|b", "| x |", "# head", "- item", "1. one", "> quote", "&lt;", "&#60;", "---", "<!-- x"),
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script>", "' onmouseover='x", "{{ 7 * 7 }}"),
    *("=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "  =1", "＝1", "'x", '"', "a,b", "a;=b", '""', "-1.5", "nan"),
    *(r"\input{x}", r"\\", "[1em]", "*", "%", "{", "}", "^", "~", r"\end{tabular}", "%s %d {0} {x}", "<<", "--", "``"),
    *("..", "../x", "/etc/x", "con", "a/b", ".hidden", "run.json", "x" * 110, "é" * 40, "é", "e\u0301", "日本", "😀"),
]
"""Markup, mathematics, formulas and paths made of characters that any name may have."""
TEXTS = TERMINAL + MARKUP

DRIVES = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def shown(text: str) -> str:
    """What a reader is to see, by Unicode's own categories."""
    return "".join(" " if c.isspace() else "�" if unicodedata.category(c) in DRIVES else c for c in text)


def harmless(printed: str) -> bool:
    """Whether no character but the line end drives a terminal."""
    return not any(unicodedata.category(c) in DRIVES for c in printed.replace("\n", ""))


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def cells(markdown: str) -> list[str]:
    """The cells of a table, each nothing but text."""
    out = []
    for token in MARKDOWN.parse(markdown):
        assert token.type.startswith(("table", "thead", "tbody", "tr", "th", "td", "inline")), token.type
        if token.type == "inline":
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.children
            out.append("".join(child.content for child in token.children))
    return out


_SPECIAL = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^"}
_LATEX = re.compile(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\{[\[\]*<>]\}|[^\\~^&%$#_{}\[\]*<>]")


def latex_text(made: str) -> str:
    """What LaTeX typesets of a cell in which nothing stands for anything but a character."""
    words = _LATEX.findall(made)
    assert "".join(words) == made, made
    return "".join(
        _SPECIAL.get(word, word if len(word) == 1 else word.strip("\\") if word[0] == "\\" else word[1])
        for word in words
    )


class Plain(HTMLParser):
    """All that is no tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data
