"""Penn Treebank tokens as the captioning scores count them, without Java.

The official scorers (pycocoevalcap) pipe all captions through PTBTokenizer of Stanford CoreNLP
3.4.1 with `-preserveLines -lowerCase` and then drop punctuation. This is a lexer of the same
behaviour: at each place the rule that matches most characters wins, with what must follow counted
in, and the first of equal ones. Line breaks are characters like others, so that a few rules look
into the next caption, there as here.
"""

import re
from collections.abc import Iterator, Sequence

from flamingo_jax.evaluation.metrics.ptb_rules import GAP, RULES

_PLAIN = re.compile(r"[A-Za-z]+(?=[ \n])")  # no rule finds more in a text that begins so
_SPLIT = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))
_LINE_BREAK = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
_DROPPED = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
"""As the official list has it: brackets come in lower case and so are kept."""


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Captions as their tokens between single spaces, lower-cased and without punctuation.

    Line breaks of other kinds than `\\n` would put the official tokenizer's captions out of step;
    they are spaces here.

    Args:
      captions: in their official order, since some rules look at what follows a line's end.
    """
    if not captions:
        return []
    lines = [_LINE_BREAK.sub(" ", caption.replace("\n", " ")) for caption in captions]
    tokens: list[list[str]] = [[]]
    for token in _lex("\n".join(lines)):
        if token == "\n":
            tokens.append([])
        else:
            tokens[-1].append(token.lower())
    return [_without_punctuation(" ".join(line)) for line in tokens]


def _without_punctuation(line: str) -> str:
    dropped = _DROPPED.split()
    return " ".join(token for token in line.rstrip().split(" ") if token not in dropped)


def _lex(text: str) -> Iterator[str]:
    """Tokens as they are written out, with line breaks."""
    at = 0
    while at < len(text):
        if text[at] == "\n":
            yield "\n"
            at += 1
        elif gap := GAP.match(text, at):
            at = gap.end()
        elif (plain := _PLAIN.match(text, at)) and plain[0].lower() not in _SPLIT:
            at = plain.end()
            yield plain[0]
        else:
            token, at = _next(text, at)
            if token is not None:
                yield token


def _next(text: str, at: int) -> tuple[str | None, int]:
    """The token of the best rule, None for none, and where to read on."""
    longest, best, found = 0, None, None
    for rule in RULES:
        match = rule.pattern.match(text, at)
        if match and match.end() - at > longest:
            longest, best, found = match.end() - at, rule, match
    if best is None or found is None:
        return None, at + 1  # an unknown character
    token, end = found["token"], found.end("token") - best.back
    shown = token if best.repeat or not best.back else token[: -best.back]
    return best.form(shown) if best.form else None, end
