"""Laws of extraction: the last explicit statement is the answer, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prm.answers import equivalent, extract_answer, guess_answer, normalise, reference_answer


@given(
    st.text("abc{}\\$ 12", max_size=30), st.recursive(st.just("x"), lambda s: s.map(lambda t: f"\\frac{{{t}}}{{2}}"))
)
@settings(deadline=None)
def test_the_last_statement_is_the_answer_whatever_stands_before_it(before: str, answer: str) -> None:
    boxed = f"{before} the answer is 4. \\boxed{{7}} so \\boxed{{{answer}}}. Done"
    assert extract_answer(boxed) == answer
    assert extract_answer(f"{boxed}. No, the answer is 9.") == "9"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{3} and #### 4", "4"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"first \boxed{1}, then \boxed{2 and it was cut", "1"),
        (r"\boxed{} the answer is 3.", "3"),
        ("4 + 5 = 9\n#### 9\n", "9"),
        ("#### 1,200\nor rather\n#### 1,300", "1,300"),
        ("The answer is 3.5. I am sure.", "3.5"),
        ("Final Answer: (3, π/2)", "(3, π/2)"),
        ("the answer is 1. No, the answer is: 2", "2"),
        ("**Answer:** 12 cm", "12 cm"),
        ("The answer is:\n\\[\n\\frac{1}{2}\n\\]\n", r"\frac{1}{2}"),
        ("The answer is $\\frac{1}{2}$.", r"$\frac{1}{2}$"),
        ("The final answer is: The price of the shirt was \\$36.", r"\$36"),
        ("Answer: by solving these equations, we find that $x=9$.", "9"),
        ("<reasoning>5! = 120</reasoning>\n<answer>120</answer>", "120"),
        ("42", "42"),
        (r"$\frac{3}{4}$", r"$\frac{3}{4}$"),
        ("", None),
        ("I do not know.", None),
        ("Step 1: 3 + 4 = 7", None),
        ("The answer is", None),
    ],
)
def test_golden_extractions(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_a_guess_is_the_stated_answer_or_else_the_last_value() -> None:
    assert guess_answer("3 + 4 is 7. So \\boxed{8}") == "8"
    assert guess_answer("So the number is\n\\[ (2+1)(2+1) = 9 \\]\nTherefore it has 9 positive divisors.") == "9"
    assert guess_answer("(r, t) = $(3, \\frac{\\pi}{2})$ it is") == r"(3, \frac{\pi}{2})"
    assert guess_answer("It is **Carla**, not 5") == "5"
    assert guess_answer("no idea") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>\boxed{5}?</think> So the answer is 7.", "7"),
        (r"<think>\boxed{5}</think>\nno.<think>\boxed{6}</think> The answer is 7.", "7"),
        (r"a</reasoning>" + "\n17", "17"),
        (r"<reasoning>so \boxed{7}</reasoning>" + "\n", "7"),  # nothing behind it
        (r"<reasoning>x</reasoning><answer>8</answer>", "8"),
        (r"<think>perhaps \boxed{7}", None),  # cut while it thinks
        (r"<reasoning>perhaps \boxed{7}", "7"),  # a format's tag without its end is no block
    ],
)
def test_text_behind_the_last_reasoning_block_counts(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5} was my first idea; but the final answer is 7.", "7"),
        (r"The answer is 5? No: \boxed{7}.", "7"),
        ("Is it \\boxed{8}? No.\n#### 7", "7"),
        ("#### 8\n\nThe answer is 7.", "7"),
        (r"<answer>5</answer> or rather \boxed{7}", "7"),
        (r"\boxed{7}. The answer is reasonable, since it is positive.", "7"),  # words without a value state nothing
        (r"\boxed{7}. We can check our answer: if n = 7, then 2n is 14.", "7"),
        (r"\boxed{7}, so the answer is not 5.", "7"),
    ],
)
def test_the_later_statement_wins_boxed_or_worded(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### Step 1: Add\n3 + 4 = 7\n\nThe answer is 7.", "7"),
        ("#### 2 Cases\n\\boxed{7}\n#### Check\n7 = 7", "7"),
        ("##### 4\n\\boxed{7}", "7"),  # five hashes
        ("#### Final Answer\n\n7", "7"),
        ("#### The final answer is 7", "7"),
        ("so\n#### $18.00", "$18.00"),
        ("so\n#### \\frac{1}{2}", r"\frac{1}{2}"),
        ("so\n#### Evelyn", "Evelyn"),  # the last line, and no other statement
        ("#### Step 7: Look for a closed form of the sum", None),
    ],
)
def test_a_heading_is_no_answer_unless_a_value_stands_alone(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "**Answer**: 7", "__Answer__: 7", "*Answer*: 7", "Answer : 7", "ANSWER: 7", "**Final Answer**\n\n7",
        "Answer = 7", "The answer is therefore 7.", "Hence the answer must be 7.",
        "The answer to the second question is 7.",
        "The answer is 7 because 3 + 4 = 7 and 2 is too small.", "The answer is 7, which is odd.", "#### Answer: 7",
        "The final answer is **7**.", "Answer: the number of pens that she has is 7",
        '{"answer": 7}', '{"answer": "7"}', r"our answer is $\boxed 7$.", r"\boxed7", r"\boxed{\boxed{7}}",
    ],
)  # fmt: skip
def test_a_value_is_found_in_every_wording(text: str) -> None:
    assert normalise(extract_answer(text) or "") == "7"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The roots are \boxed{3} and \boxed{4}.", "3, 4"),
        (r"$\boxed{3}$, $\boxed{4}$, or $\boxed{5}$", "3, 4, 5"),
        (r"\boxed{3} and \boxed{3}", "3"),
        (r"\boxed{3}, no, \boxed{4}", "4"),
        (r"\boxed{3} \boxed{4}", "4"),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxedtext{3}", None),
    ],
)
def test_joined_boxes_are_one_list(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is C because A is too small.", "C"),
        ("The answer is (C) 14", "(C) 14"),
        ("Therefore, the correct answer is option B.", "B"),
        ("The answer is Monday.", "Monday"),
        ("Answer: There are 35 pairs \\((a, b)\\) with this property.", "35"),
        ("Answer: 42 that both can think of, which is 7.", "7"),
        ('{"answer": "\\\\frac{1}{2}"}', r"\frac{1}{2}"),
        (r"The final answer is \( r = \sqrt{5} \) meters.", r"\sqrt{5}"),
        ("The answer is 3.14 (approximately).", "3.14 (approximately)"),
    ],
)
def test_what_a_sentence_states(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


def test_the_answer_of_a_solution_is_its_box_whatever_is_remarked_behind_it() -> None:
    assert reference_answer(r"so \boxed{7}. Remark: for n = 3 the answer is 90.") == "7"
    assert reference_answer("3 + 4 = <<3+4=7>>7\n#### 7") == "7"
    assert reference_answer("She is called so.\n#### Evelyn\n") == "Evelyn"
    assert reference_answer("The answer is 7.") == "7"


@pytest.mark.parametrize("unit", [
    r"\boxed{", r"\boxed{}", "{", r"\text{", r"\[", r"\( \[", r"answer:\[ \]", "answer is ", "<answer>", "$$", "**a",
    "1,", "aa ", " ", ". ", "1 1", "####", "percent ", "1A", r"\boxed 2", "answer to ", '"answer": ', "<think>",
    "answer\n", "#### Step\n", r"\boxed{1} and ", "is ", "(C) ", r"\text{ cm}", " per m", r"\frac ",
])  # fmt: skip
def test_time_grows_with_the_length(unit: str) -> None:
    for text in ((unit * 10**5)[: 10**5], "the answer is " + (unit * 10**5)[: 10**5] + "!"):
        start = time.process_time()
        guess_answer(text)
        normalise(text)
        normalise(text[:2000])
        assert equivalent(text, text)
        assert not equivalent(text, text + "1")
        assert time.process_time() - start < 60  # 0.03 s; a square would take minutes
