"""Texts that mean something else wherever they are shown: one list for every destination."""

from __future__ import annotations

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
