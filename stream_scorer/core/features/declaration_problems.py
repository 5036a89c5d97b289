"""All that is wrong with a feature declaration, so that nobody corrects it error by error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_scorer.core.features.space import Feature, FeatureSpace, feature_problems
from stream_scorer.errors import ConfigError

UNKNOWN_WORDS = ("(not known)",)  # in place of a vocabulary that is wrong


def declaration_problems(
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
    event_types: Sequence[str] | None,
) -> list[ConfigError]:
    """The first error of each vocabulary, all of each feature, then the first of all together; as
    of `FeatureSpace.compile`, and [] where that raises nothing."""
    together = _problem(features, vocabularies, event_types)
    if together is None:
        return []
    found, words = [], dict(vocabularies)
    for field, entries in vocabularies.items():
        # A feature without keys is right with any vocabulary.
        wrong = _problem([Feature("any")], {field: entries}, None)
        if wrong is not None:
            found.append(wrong)
            words[field] = UNKNOWN_WORDS  # its features are not wrong because of it
    for feature in features:
        found += feature_problems(feature, {k: tuple(v) for k, v in words.items()}, event_types)
    if str(together) not in map(str, found):
        found.append(together)
    return found


def _problem(
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
    event_types: Sequence[str] | None,
) -> ConfigError | None:
    try:
        FeatureSpace.compile(features, vocabularies, event_types)
    except ConfigError as error:
        return error
    return None
