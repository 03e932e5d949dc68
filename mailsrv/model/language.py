"""The languages in which people are spoken to, by the tags of RFC 5646."""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Language(Enum):
    """The languages, each by its tag (RFC 5646) and its own name."""

    DEFAULT = "i-default", "Default language"  # RFC 2277 §4.5: English in ASCII
    ENGLISH = "en", "English"
    GERMAN = "de", "Deutsch"
    FRENCH = "fr", "Français"

    @property
    def tag(self) -> str:
        """What LANG calls it."""
        return self.value[0]

    @property
    def listing(self) -> str:
        """Its line in the listing."""
        return " ".join(self.value)


_BY_TAG: Final[Mapping[str, Language]] = {language.tag: language for language in Language}
TAGS: Final = tuple(_BY_TAG)


def language_of(wanted: str) -> Language | None:
    """The language for a range such as `de` or `de-AT` (RFC 4647 §3.4: the longest beginning that there is)."""
    subtags = wanted.lower().split("-")
    for length in range(len(subtags), 0, -1):
        if language := _BY_TAG.get("-".join(subtags[:length])):
            return language
    return None
