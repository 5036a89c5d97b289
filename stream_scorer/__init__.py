"""stream_scorer keeps every customer's category propensities fresh.

`import stream_scorer as ss` gives a notebook what the command line works with:

    settings = ss.Settings.load("stream_scorer.toml")
    space = settings.feature_space()
    events = ss.read_events("events/", settings)
    matrix, ids = ss.features_at(events, space, "2026-09-21T00:00:00Z")
    model = ss.load_model("model")
    model.propensities(matrix, top_k=5)

`__all__` is the public API. Everything else is private: the path of a module is not a promise, and
a name that is reached by it may move in any version. Every error that is raised on purpose is a
`StreamScorerError`; `InputError` says that something given is wrong, and names the field, the
value and the remedy.

A name is imported when it is first used, so that `import stream_scorer` itself is fast and needs
neither MXNet nor pyarrow nor numba. Only `train`, and a model opened with engine "mxnet", need
MXNet.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_scorer.api.customers import Customers, customer_history, open_customers
    from stream_scorer.api.erasure import forget_customers, forgotten_customers
    from stream_scorer.api.events import read_events, write_events
    from stream_scorer.api.features import features_at, shop_trend
    from stream_scorer.api.models import Model, evaluate, load_model
    from stream_scorer.api.stores import Vectors, VectorStore, open_store
    from stream_scorer.api.training import labelled_rows, open_snapshot, train
    from stream_scorer.core.evaluation.evaluation import Evaluation
    from stream_scorer.core.features.space import Feature, FeatureSpace
    from stream_scorer.core.labels.labels import LabelledRows
    from stream_scorer.customers.erasure_receipt import ErasureReceipt
    from stream_scorer.customers.explanation import Explanation
    from stream_scorer.customers.history import CustomerHistory
    from stream_scorer.customers.shown import CustomerShown
    from stream_scorer.errors import (
        ArtefactError,
        ConfigError,
        EventFileError,
        FingerprintMismatch,
        InputError,
        SnapshotError,
        StoreUnavailable,
        StreamScorerError,
        Unavailable,
    )
    from stream_scorer.io.files.snapshots import Snapshot
    from stream_scorer.settings.tree import Settings

__version__ = "0.1.0"

__all__ = [
    "ArtefactError",
    "ConfigError",
    "CustomerHistory",
    "CustomerShown",
    "Customers",
    "ErasureReceipt",
    "Evaluation",
    "EventFileError",
    "Explanation",
    "Feature",
    "FeatureSpace",
    "FingerprintMismatch",
    "InputError",
    "LabelledRows",
    "Model",
    "Settings",
    "Snapshot",
    "SnapshotError",
    "StoreUnavailable",
    "StreamScorerError",
    "Unavailable",
    "VectorStore",
    "Vectors",
    "__version__",
    "customer_history",
    "evaluate",
    "features_at",
    "forget_customers",
    "forgotten_customers",
    "labelled_rows",
    "load_model",
    "open_customers",
    "open_snapshot",
    "open_store",
    "read_events",
    "shop_trend",
    "train",
    "write_events",
]

_MODULES = {
    "api.customers": ("Customers", "customer_history", "open_customers"),
    "api.erasure": ("forget_customers", "forgotten_customers"),
    "api.events": ("read_events", "write_events"),
    "api.features": ("features_at", "shop_trend"),
    "api.models": ("Model", "evaluate", "load_model"),
    "api.stores": ("VectorStore", "Vectors", "open_store"),
    "api.training": ("labelled_rows", "open_snapshot", "train"),
    "core.evaluation.evaluation": ("Evaluation",),
    "core.features.space": ("Feature", "FeatureSpace"),
    "core.labels.labels": ("LabelledRows",),
    "customers.erasure_receipt": ("ErasureReceipt",),
    "customers.explanation": ("Explanation",),
    "customers.history": ("CustomerHistory",),
    "customers.shown": ("CustomerShown",),
    "errors": (
        "ArtefactError",
        "ConfigError",
        "EventFileError",
        "FingerprintMismatch",
        "InputError",
        "SnapshotError",
        "StoreUnavailable",
        "StreamScorerError",
        "Unavailable",
    ),
    "io.files.snapshots": ("Snapshot",),
    "settings.tree": ("Settings",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for tab completion."""
    return sorted(__all__)
