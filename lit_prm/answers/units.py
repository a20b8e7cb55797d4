r"""Removes the units behind a quantity: ``99\pi \text{ square inches}`` is ``99\pi``, ``60 km/h`` is ``60``.

Behind a plain number every word of three letters is a unit (``24 pens``). Behind another quantity only words within
``\text{...}`` and the names below are; a letter in italics is a variable (``4t``).
"""

from __future__ import annotations

import re

_NAMES = (
    r"(?:sq(?:uare)?|cu(?:bic)?)\b\.?|units?|inch(?:es)?|feet|foot|ft|yards?|yds?|miles?|mi|[cmk]m|(?:kilo|milli)?grams?|[km]g"
    r"|(?:centi|milli|kilo)?met(?:er|re)s?|pounds?|lbs?|ounces?|oz|tons?|(?:milli)?lit(?:er|re)s?|m[lL]|gallons?|hours?|hrs?"
    r"|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|yrs?|mph|kmh|kph|kWh|dollars?|cents?|euros?|radians?|rad"
)
_POWER = r"(?:\s*\^\s*(?:-?\d|\{\s*-?\d\s*\}))?"
_STOP = (
    r"(?:and|or|if|for|when|where|mod|times|over|is|are|to|pi|plus|minus|base|remainder|dozens?|hundreds?|thousands?"
    r"|[mbtr]+illions?|halves|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)ths?|factorial|infinity|modulo|[ap]\.?m)\b"
)
_END = r"(?=\s*(?:$|[,;)\]]|\\(?:text|mathrm|mbox)\s*\{\s*,?\s*(?:and|or)\b|,?\s*\b(?:and|or)\b))"
_COMPOUND = (
    rf"(?:(?:{_NAMES})\b|[mgsJN](?=\s*/)){_POWER}"
    rf"(?:(?:\s*/\s*|\s+per\s+|\s*\\cdot\s*|\s+)(?:(?:{_NAMES})|[mshgLl])\b\.?{_POWER})*"
)
_TYPESET = (  # the content of \text{...}; no single letter that is a number or a variable
    rf"\s*(?!{_STOP})(?:[A-Za-z]{{2,}}|[mgshlLNJWVKCF](?![A-Za-z]))\.?{_POWER}"
    rf"(?:[\s./-]+(?!{_STOP})[A-Za-z]+\.?{_POWER})*\s*"
)
_GROUP = rf"\\(?:text(?:bf|it|rm|sf)?|mathrm|mbox|operatorname)\s*\{{{_TYPESET}\}}{_POWER}"
_TEXT = re.compile(
    rf"(?<=[A-Za-z0-9)}}\]])\s*(?:\\[dt]?frac\s*\{{\s*{_GROUP}\s*\}}\s*\{{\s*{_GROUP}\s*\}}"
    rf"|{_GROUP}(?:\s*(?:/|\\cdot(?![a-z]))?\s*{_GROUP})*){_END}"
)
_PLAIN = re.compile(rf"(?:(?<=\d)\s*|(?<=[A-Za-z0-9)}}\]])\s+){_COMPOUND}{_END}")
_COUNTED = re.compile(
    r"([-+]?(?:\d+\s+\d+/\d+|\d+/\d+|\d[\d,]*(?:\.\d*)?|(?:\d+\s*)?\\frac\{\d+\}\{\d+\}))"
    rf"(?:\s+(?!{_STOP})(?:[A-Za-z-]{{3,}}|[mgshlLJNWV]|in){_POWER}(?![A-Za-z]))+"
)
_ORDINAL = re.compile(r"(?<=\d)(?:\s*\^\s*\{?\s*(?:st|nd|rd|th)\s*\}?|(?:st|nd|rd|th))$")
_CURRENCY = re.compile(r"\\(?:pounds|euro|textdollar|texteuro)(?![a-zA-Z])|^\s*(?:USD|EUR|GBP|INR|Rs\b\.?)\s*(?=\d)")


def without_typeset(answer: str) -> str:
    r"""The answer without units in ``\text{...}`` and without names of currencies."""
    return _TEXT.sub("", _CURRENCY.sub("", answer))


def without_plain(answer: str) -> str:
    r"""The answer without units in plain letters, once ``\text`` is unwrapped."""
    answer = _ORDINAL.sub("", _PLAIN.sub("", answer))
    counted = _COUNTED.fullmatch(answer.strip())
    return counted[1] if counted else answer
