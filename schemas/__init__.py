"""The Avro schemas of the topics, installed as `stream_scorer.schemas`.

The texts are read once, when this package is imported, so that `stream_scorer.core`, which reads no
file, finds them as constants.
"""

from importlib.resources import files

TEXTS: dict[str, str] = {
    name: (files(__name__) / f"{name}.avsc").read_text(encoding="utf-8")
    for name in (
        "customer_event",
        "category_propensities",
        "category_propensities_float16",
        "dead_letter",
    )
}
