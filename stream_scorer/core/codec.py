"""Avro bytes <-> columns: the names that other parts use.

Lives here: nothing but the list. Decoding is in avro_decoder.py (frames, batches),
writer_program.py (schema resolution) and record_kernel.py (the loop over bytes); encoding in
avro_encoder.py (events), propensity_records.py and dead_letter_records.py; schemas and frames in
avro_schemas.py; attributes in attribute_maps.py.
"""

from __future__ import annotations

from stream_scorer.core.attribute_maps import attribute
from stream_scorer.core.avro_decoder import Decoder
from stream_scorer.core.avro_encoder import encode_event_batch, encode_events
from stream_scorer.core.avro_schemas import confluent_prefix, schema_json, single_object_prefix
from stream_scorer.core.dead_letter_records import decode_dead_letters, encode_dead_letters
from stream_scorer.core.propensity_records import (
    PropensityEncoder,
    PublishedPropensities,
    decode_propensities,
)

__all__ = [
    "Decoder",
    "PropensityEncoder",
    "PublishedPropensities",
    "attribute",
    "confluent_prefix",
    "decode_dead_letters",
    "decode_propensities",
    "encode_dead_letters",
    "encode_event_batch",
    "encode_events",
    "schema_json",
    "single_object_prefix",
]
