"""stream_scorer keeps every customer's category propensities fresh."""

__version__ = "0.1.0"
