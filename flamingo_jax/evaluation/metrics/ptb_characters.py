"""The characters that the reference tokenizer tells apart, for character classes.

It knows the letters and digits of Unicode 6, nothing beyond U+FFFF, and drops what it does not
know: found by giving it every character alone, between letters and before a digit.
"""

_LATER_LETTERS = """
    37F 528-52F 560 588 5EF 860-86A 870-887 889-88E 8A1 8AD-8C9 978 980 9FC AF9 C34 C5A C5D C80 CDD
    D04 D54-D56 D5F E86 E89 E8C E8E-E93 E98 EA0 EA8-EA9 EAC 13F5 13F8-13FD 16F1-16F8 170D 171F 1878
    191D-191E 19B0-19C0 19C8-19C9 1B4C 1C80-1C88 1C90-1CBA 1CBD-1CBF 1CF2-1CF3 1CFA 2C2F 2C5F
    312E-312F 31BB-31BF 4DB6-4DBF 9FCD-9FFF A698-A69D A78F A794-A79F A7AB-A7CA A7D0-A7D1 A7D3
    A7D5-A7D9 A7F2-A7F7 A8FD-A8FE A9E0-A9E4 A9E6-A9EF A9FA-A9FE AA7E-AA7F AB30-AB5A AB5C-AB69
    AB70-ABBF
"""
_LATER_DIGITS = "DE6-DEF A9F0-A9F9"
_MARKS = """
    AD 237-24F 2C2-2C5 2D2-2DF 2E5-2FF 300-36F 370-37D 384-385 3CF 3F6 3FC-3FF 483-487 4CF 4F6-4FF
    510-525 55A-55F 591-5BD 5BF 5C1-5C2 5C4-5C5 5C7 615-61A 63B-63F 64B-65E 670 6D6-6EF 6FA-6FF 70F
    711 730-74F 750-77F 7A6-7B1 7CA-7F5 7FA 900-903 93C 93E-94E 951-955 962-963 981-983 9BC-9C4
    9C7-9C8 9CB-9CD 9D7 9E2-9E3 A01-A03 A3C A3E-A4F A81-A83 ABC-ACF B82 BBE-BC2 BC6-BC8 BCA-BCD
    C01-C03 C3E-C56 D3E-D44 D46-D48 E30-E3A E47-E4E EB1-EBC EC8-ECD
"""
_SYMBOLS = """
    25-26 2B 5C 5E 7C 7E A6-A9 AC AE-B4 B6-BA D7 F7 387 5BE 5C0 5C3 5C6 5F3-5F4 600-603 606-60A 60C
    614 61B 61E 66A 66D 703-70D 7F6-7F8 964-965 E4F 1FBD 2016-2017 2020-2023 2030-2038 203B
    203E-2042 2044 207A-207F 208A-208E 2100-214F 2190-2BFF 3012 30FB FF01-FF0F FF1A-FF20 FF3B-FF40
    FF5B-FF65
"""


def _members(text: str) -> set[int]:
    found = set()
    for part in text.split():
        low, _, high = part.partition("-")
        found.update(range(int(low, 16), int(high or low, 16) + 1))
    return found


def _written(codes: set[int]) -> str:
    """Code points as the inside of a character class."""
    spans: list[tuple[int, int]] = []
    for code in sorted(codes):
        if spans and spans[-1][1] == code - 1:
            spans[-1] = (spans[-1][0], code)
        else:
            spans.append((code, code))
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in spans)


_LETTERS = {code for code in range(0x10000) if chr(code).isalpha()} - _members(_LATER_LETTERS)
_DIGITS = {code for code in range(0x10000) if chr(code).isdecimal()} - _members(_LATER_DIGITS)

LETTER = _written(_LETTERS)
CAPITAL = _written({code for code in _LETTERS if chr(code).isupper()})
PART = _written(_LETTERS | _members(_MARKS))
"""What words are made of: letters, accents, soft hyphens."""
DIGIT = _written(_DIGITS | _members("7C0-7C9"))
PLAIN_DIGIT = _written(_DIGITS - _members("7C0-7C9"))
SYMBOL = _written(_members(_SYMBOLS))
"""What stands alone."""
