"""The Avro schemas of the three topics; installed as `stream_scorer.schemas`."""
