"""The rules of the lexer in `ptb`, in their order."""

import dataclasses
import re
from collections.abc import Callable

from flamingo_jax.evaluation.metrics.ptb_characters import (
    CAPITAL,
    DIGIT,
    LETTER,
    PART,
    PLAIN_DIGIT,
    SYMBOL,
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a token looks like.

    Attributes:
      pattern: whose group `token` is the token; what follows the group must follow it in the text.
      form: the token as it is written out; None if it is left out.
      back: characters at the token's end that are read again.
      repeat: what is read again is part of the token all the same.
    """

    pattern: re.Pattern[str]
    form: Callable[[str], str] | None
    back: int = 0
    repeat: bool = False


def _fixed(text: str) -> Callable[[str], str]:
    return lambda _: text


def _same(token: str) -> str:
    return token


def _without_soft_hyphens(token: str) -> str:
    return token.replace("\xad", "") or "-"


def _one_piece(token: str) -> str:
    """Spaces inside a token become no-break spaces."""
    return token.replace(" ", "\xa0")


def _round(token: str) -> str:
    return token.replace("(", "-LRB-").replace(")", "-RRB-")


def _phone(token: str) -> str:
    return _round(_one_piece(token))


def _ampersand(token: str) -> str:
    return re.sub("&amp;", "&", token, flags=re.IGNORECASE)


def _dashes(token: str) -> str:
    return "--" if 3 <= len(token) <= 4 else token


def _fraction(token: str) -> str:
    named = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
    return named.get(token, token)


def _currency(token: str) -> str:
    named = {"¢": "cents", "£": "#"}
    return "$" if token in "\x80¤₠€" else named.get(token, token)


_CURLY = str.maketrans(
    dict.fromkeys("\x91‘‛‹", "`")
    | dict.fromkeys("\x92’›", "'")
    | dict.fromkeys("\x93“«", "``")
    | dict.fromkeys("\x94”»", "''")
)


def _opening(token: str) -> str:
    straight = token.replace("&apos;", "`").replace("'", "`")
    return straight.replace('"', "``").replace("&quot;", "``").translate(_CURLY)


def _closing(token: str) -> str:
    straight = token.replace("&apos;", "'").replace('"', "''").replace("&quot;", "''")
    return straight.translate(_CURLY)


def _any_case(*words: str) -> str:
    """Alternatives in any case, longer ones first."""
    return f"(?i:{'|'.join(sorted(words, key=len, reverse=True))})"


_SPACE = r"[ \t\xa0\u2000-\u200a\u3000]"
_NEWLINE = r"(?:\r\n|[\r\n\u2028\u2029\x0b\x0c\x85])"
_BLANK = rf"(?:{_SPACE}|{_NEWLINE})"
_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = r"(?:'[^'\r\n]*'|\"[^\"\r\n]*\")"
_TAG = (
    r"<(?:[!?][A-Za-z-][^>\r\n]*"
    rf"|{_NAME}(?: +(?:{_NAME} *= *{_VALUE}|{_NAME}))* */?|/{_NAME}) *>"
)
_APOSTROPHE = r"(?:['\x92’]|(?i:&apos;))"
_IN_WORD = rf"(?:{_APOSTROPHE}|[`\x91‘‛])"
_PART = rf"(?:[{PART}]|&[aeiouAEIOU](?i:acute|grave|uml);)"
_PARTS = rf"{_PART}(?:{_PART}|[{DIGIT}])*"
_WORD = rf"{_PARTS}(?:[.!?]{_PARTS})*"
_ALNUM = f"[{LETTER}{PLAIN_DIGIT}]"
_NUMERAL = rf"(?:[{DIGIT}]*(?:[.:,\xad٫٬][{DIGIT}]+)+|[{DIGIT}]+)"
_ENDING = rf"{_APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = rf"[nN]{_IN_WORD}[tT]"
_ACRONYM = (
    r"(?:(?i:u\.s\.-(?:u\.s\.s\.r|u\.k))|(?i:canada|sino|korean|eu|japan|non)-(?i:u\.s)"
    r"|[A-Za-z](?:\.[A-Za-z])+)"
)
_MIDDLE = "[,;:\u3001]"  # punctuation inside a sentence
_URL = r"[^ \t\n\f\r\"<>|()]"
_URL_END = r"[^ \t\n\f\r\"<>|.!?(){},-]"
_PATH = rf"(?:/{_URL}+{_URL_END})?"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_ELISION = rf"(?:[dDoOlL]{_IN_WORD}{_ALNUM})?"
_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec"
_DAYS = "mon tue tues wed thu thurs fri"
_STATES = (
    "ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn "
    "tenn va vt wis wisc wyo"
)
_COMPANIES = "inc co cos corp ltd plc rt bancorp bhd assn univ intl sys"
_OTHER_ENDS = r"tel est ext sq jr sr bros ed\.d ph\.d blvd rd esq etc al seq bldg"
_TITLES = (
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev "
    "maj sgt cpl pvt capt st ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft "
    "adj adv asst assoc ens insp mlle mme msgr sfc"
)
_OTHER_STARTS = r"vs alex wm jos cie a\.k\.a cf treas ph dept invt elec natl"
_BEFORE_NUMBERS = "ca fig figs prop no nos art bldg pp op"


def _abbreviations() -> tuple[str, str]:
    """Those that may end a sentence, with their point, and those that come before a name.

    Letters in brackets are of that case alone.
    """
    ends = _any_case(*f"{_MONTHS} {_DAYS} {_STATES} {_COMPANIES} {_OTHER_ENDS}".split())
    cased = "[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)"
    cased += "|[T](?i:ex)|[W](?i:ash)|(?i:pp?t)[ye](?i:s?)"
    starts = _any_case(*f"{_TITLES} {_OTHER_STARTS}".split())
    return (
        rf"(?:{cased}|{ends})\.",
        rf"(?:{_ACRONYM}|[M](?i:iss)|(?i:m)[ft](?i:g)|{starts}|[A-Za-z])",
    )


_ENDS, _STARTS = _abbreviations()
_SENTENCE_WORDS = (
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last "
    "Many More Mr. Ms. Now Once One Other Our She Since So Some Such That The Their Then There "
    "These They This We When While What Yet You"
)
_SENTENCE_START = "|".join(
    f"[{word[0]}](?i:{re.escape(word[1:])})"
    for word in sorted(_SENTENCE_WORDS.split(), reverse=True)
)
_NEW_SENTENCE = rf"{_BLANK}+(?:{_SENTENCE_START}|{_TAG}){_BLANK}"
_EXTENSIONS = (
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php "
    "pl png ppt ps py sql tar txt wav x xml zip"
)
_FACE = r"[-^x=~<>']"
_PHONE = (
    r"(?:(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
    r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5})"
)
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"


def _rule(
    token: str,
    form: Callable[[str], str] | None = _same,
    after: str = "",
    back: int = 0,
    repeat: bool = False,
) -> Rule:
    return Rule(re.compile(f"(?P<token>{token}){after}"), form, back, repeat)


GAP = re.compile(f" {_SPACE}*")
RULES = (
    _rule(r"(?i:c\+\+|[cf]#)"),
    _rule("(?i:cannot|'twas)", back=3),
    _rule(rf"{_APOSTROPHE}(?i:tis)|(?i:gonna|gotta|lemme|gimme|wanna)", back=2),
    _rule(_TAG, _one_piece),
    _rule("&(?i:md|mdash|ndash);|[\x96\x97–—―]", _fixed("--")),
    _rule("(?i:&amp;)", _fixed("&")),
    _rule("&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);"),
    _rule(_WORD, _without_soft_hyphens, _ENDING),
    _rule("[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _without_soft_hyphens, _NOT),
    _rule(_WORD, _without_soft_hyphens),
    _rule(rf"{_APOSTROPHE}[nN]{_APOSTROPHE}?"),
    _rule(rf"[lLdDjJ]{_APOSTROPHE}"),
    _rule(rf"(?i:dunkin|somethin|ol){_APOSTROPHE}|{_APOSTROPHE}(?i:em|till?|cause)"),
    _rule(rf"[A-HJ-XZn]{_IN_WORD}[{LETTER}]{{2,}}"),
    _rule(rf"{_APOSTROPHE}[2-9]0[sS]"),
    _rule(rf"[{LETTER}]+[aeiouyAEIOUY]{_IN_WORD}[aeiouA-Z][{LETTER}]*"),
    _rule(r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)"),
    _rule(f"[oO]{_IN_WORD}[oO]"),
    _rule(rf"[yY]{_APOSTROPHE}", after=f"[{LETTER}]"),
    _rule(r"(?i:https?)://[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},-]"),
    _rule(rf"(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}{_PATH}"),
    _rule(rf"(?:[^ \t\n\f\r\"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu){_PATH}"),
    _rule(
        r"(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n\f\r\"<>|(){}\xa0]*@"
        r"(?:[^ \t\n\f\r\"<>|(){}.\xa0]+\.)*[^ \t\n\f\r\"<>|(){}.\xa0]+(?:>|(?i:&gt;))?"
    ),
    _rule(rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_PART}+"),
    _rule(_ENDING, _closing, "[^A-Za-z]"),
    _rule(_NOT, _closing),
    _rule(rf"[{DIGIT}]{{1,2}}[-/][{DIGIT}]{{1,2}}[-/][{DIGIT}]{{2,4}}"),
    _rule(f"[-+]?{_NUMERAL}", _without_soft_hyphens),
    _rule("[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)"),
    _rule(rf"(?:[{DIGIT}]{{1,4}}[- \xa0])?[{DIGIT}]{{1,4}}(?:\\?/|⁄)[{DIGIT}]{{1,4}}", _one_piece),
    _rule("[¼½¾⅓-⅞]", _fraction),
    _rule(
        r"-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-|(?i:c\.d\.s|pro-|anti-|s&(?:amp;)?p-500|s&(?:amp;)?ls)"
        rf"|(?i:cap){_APOSTROPHE}[nN]|[cC]{_APOSTROPHE}(?i:est)",
        _ampersand,
    ),
    _rule(rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}"),
    _rule(r"[A-Z]*\$|#"),
    _rule("[¢£¤¥\x80₠€؋฿₤￠￡￥￦]", _currency),
    _rule(rf"{_ACRONYM}\.", after=_NEW_SENTENCE, back=1, repeat=True),
    _rule(r"[A-Za-z]\.", after=_NEW_SENTENCE, back=1),
    _rule(_any_case(*_BEFORE_NUMBERS.split()) + r"\.", after=f"{_BLANK}?[{PLAIN_DIGIT}]"),
    _rule(r"(?:(?i:pt)[eyEY]|(?i:co))\.", after=f"{_SPACE}(?i:ltd|lim)"),
    _rule(_ENDS, after=f"{_BLANK}(?:{_BLANK}|[{CAPITAL}]|{_TAG})", back=1, repeat=True),
    _rule(_ENDS, after=r"(?s:..)"),
    _rule(_ENDS, back=1, repeat=True),
    _rule(rf"{_STARTS}\."),
    _rule(_STARTS, after=_SPACE),
    _rule(_ACRONYM, after=_BLANK),
    _rule(rf"{_APOSTROPHE}[0-9][0-9]", after=_BLANK),
    _rule(
        rf"[{PART}{DIGIT}]+(?:\.[{PART}{DIGIT}]+)*\.{_any_case(*_EXTENSIONS.split())}",
        after=rf"(?:{_BLANK}|[.?!,])",
    ),
    _rule(rf"{_WORD}\.", _without_soft_hyphens, _MIDDLE),
    _rule(_PHONE, _phone),
    _rule('"|(?i:&quot;)', _opening, "[A-Za-z0-9$]"),
    _rule('"|(?i:&quot;)', _closing),
    _rule("<|(?i:&lt;)", _fixed("<")),
    _rule(">|(?i:&gt;)", _fixed(">")),
    _rule(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", _round, "[^A-Za-z0-9]"),
    _rule(rf"[\^x=~<>]\.\[\^x=~<>]|{_FACE}_{_FACE}|\({_FACE}[_.]?{_FACE}\)", _round),
    *(
        _rule(re.escape(mark), _fixed(f"-{name}-"))
        for mark, name in zip("{}[]()", ["LCB", "RCB", "LSB", "RSB", "LRB", "RRB"], strict=True)
    ),
    _rule("-+", _dashes),
    _rule(r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\x85…]", _fixed("...")),
    _rule(r"@+|#+|_+|\*+|(?:\\\*){1,3}"),
    _rule(_MIDDLE),
    _rule("[?!]+"),
    _rule("[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]"),
    _rule("[=/]"),
    _rule(r"[A-Z]+(?:(?:\+|&(?:(?i:amp);)?)[A-Z]+)+\.", _ampersand, _MIDDLE),
    _rule(r"[A-Z]+(?:(?:\+|&(?:(?i:amp);)?)[A-Z]+)+", _ampersand),
    _rule(rf"{_ELISION}{_ALNUM}+(?:{_HYPHEN}{_ELISION}{_ALNUM}+)*\.", after=_MIDDLE),
    _rule(rf"{_ELISION}{_ALNUM}+(?:{_HYPHEN}{_ELISION}{_ALNUM}+)*"),
    _rule(
        rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\xad]+))+\.",
        _without_soft_hyphens,
        _MIDDLE,
    ),
    _rule(
        rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\xad]+))+",
        _without_soft_hyphens,
    ),
    _rule("'", _opening, r"[A-Za-z][^ \t\n\r\xa0]"),
    _rule(_ENDING, _closing),
    _rule(
        rf"''|[`‘’‚‛“”\x91-\x94„‟‹›«»]{{1,2}}|{_APOSTROPHE}",
        _closing,
    ),
    _rule("<<|>>"),
    _rule(f"[{SYMBOL}]"),
    _rule(rf"\0|{_SPACE}+|[\u200b\u200e\u200f\ufeff]|(?i:&nbsp;)", None),
)
