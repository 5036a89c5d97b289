"""The folder from which the annotated example config ships, as `stream_scorer.deploy`."""
