"""The small shop that the tests of customers make, in a real Redis and with a real model."""

from tests.customers.conftest import shop

__all__ = ["shop"]
