"""OKVQA's stems: those of OpenFlamingo's stemmer with NLTK's WordNet, noted from a run of it."""

import pytest

from flamingo_jax.evaluation.metrics import okvqa_stems


@pytest.mark.parametrize(
    "pairs",
    [
        "surfing:surf racing:race running:run skating:skate biking:bike eating:eat writing:write",
        "skateboarding:skateboard swimming:swim falling:fall travelling:travel visiting:visit",
        "celebrating:celebrate handling:handle changing:change dancing:dance judging:judge",
        "cooking:cook driving:drive flying:fly lying:lie playing:play exercising:exercise",
        "preparing:prepare combining:combine computing:compute listening:listen opening:open",
        "rating:rat hoping:hop shining:shin evening:even wedding:wed skiing:ski being:be",
        "string:string king:king spring:spring nothing:nothing ceiling:ceiling earring:earring",
    ],
)
def test_words_in_ing_are_verbs(pairs: str) -> None:
    for word, stem in (pair.split(":") for pair in pairs.split()):
        assert okvqa_stems(word) == stem


@pytest.mark.parametrize(
    "pairs",
    [
        "dogs:dog glasses:glass boxes:box beaches:beach berries:berry cookies:cooky boys:boy",
        "wolves:wolf knives:knife olives:olife tomatoes:tomato shoes:shoe horses:horse",
        "people:person women:woman children:child feet:feet mice:mouse buses:bus Yankees:Yankee",
        "bus:bus grass:grass tennis:tennis gas:gas this:this Texas:Texas news:news chess:chess",
    ],
)
def test_plurals_are_singular(pairs: str) -> None:
    for word, stem in (pair.split(":") for pair in pairs.split()):
        assert okvqa_stems(word) == stem


def test_what_is_set_by_hand_comes_first() -> None:
    given = "morning clothes riding leaves pudding police dangerous"
    assert okvqa_stems(given) == "morn cloth ride leaf pud police danger"


def test_words_are_stemmed_one_by_one_and_marks_stand_alone() -> None:
    assert okvqa_stems("riding waves.") == "ride wave ."
    assert okvqa_stems("man's 50% dogs") == "man 's 50 % dog"
    assert okvqa_stems("") == ""


def test_words_with_capitals_are_no_verbs_that_wordnet_knows() -> None:
    assert okvqa_stems("Surfing") == "Surfing"
