from jaxstab.analysis.failures import say_failures
from jaxstab.words import count, listing, plural


def test_counts_have_the_right_number():
    assert [count("seed", number) for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert count("class", 3) == "3 classes"
    assert [plural(noun, 2) for noun in ("batch", "epoch")] == ["batches", "epochs"]


def test_lists_in_sentences():
    assert [listing(names) for names in ([], "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert listing("ab", "or") == "a or b"
    assert listing([5, 7, 9, 22], most=4) == "5, 7, 9 and 22"
    assert listing(range(9), most=4) == "0, 1, 2 and 6 others"


def test_failed_seeds_share_a_reason():
    assert say_failures({0: "flat", 3: "nan", 4: "flat"}, 8) == ["Seeds 0 and 4 failed: flat.", "Seed 3 failed: nan."]
    assert say_failures(dict.fromkeys(range(3), "flat"), 3) == ["All 3 seeds failed: flat."]
    assert say_failures({}, 3) == []
