"""Today's propensities of some customers, from their vectors in Redis.

Usage: python score_from_store.py CUSTOMER_ID...

The settings are those of the starter folder `shop`; the environment may say where Redis is
(STREAM_SCORER__REDIS__URL) and which namespace holds the vectors (STREAM_SCORER__STORE__NAMESPACE).
"""

import sys

import numpy as np

import stream_scorer as ss


def main(ids: list[str]) -> None:
    """Print the three most probable categories of each customer."""
    settings = ss.Settings.load("shop/stream_scorer.toml")
    model = ss.load_model(settings.model.path)
    with ss.open_store(settings) as store:
        matrix, as_of = store.vectors(ids)
    best = model.propensities(matrix, top_k=3).to_pylist()
    for row, customer in enumerate(ids):
        if np.isnat(as_of[row]):
            print(f"{customer}: unknown")
            continue
        found = [f"{b['category_id']} {b['probability']:.3f}" for b in best if b["row"] == row]
        print(f"{customer}: as of {as_of[row]}Z {', '.join(found)}")


if __name__ == "__main__":
    main(sys.argv[1:])
