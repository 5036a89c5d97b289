"""An artefact's network as the bytes of an ONNX file.

The file says of itself, in `metadata_props`, which model it is and what its answers mean, so that a
program that has only this file can use it: `stream_scorer.model_version`, `.fingerprint`,
`.categories` (a JSON list, in the order of the answers), `.classes`, `.columns`, and
`.graph_sha256`, the SHA-256 of the bytes of field 7 of the file's ModelProto, which is the graph
with all weights. deploy/djl compares the last of these, and the first with the artefact's.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from stream_scorer.errors import ArtefactError, ConfigError
from stream_scorer.model.artefact import Artefact

try:
    from onnx import ModelProto, helper

    from stream_scorer.model.onnx_network import OPSET, GraphTooLargeError, network_graph
except ImportError as error:
    raise ConfigError("onnx", error, "pip install 'stream-scorer[onnx]'") from error

# Of the ONNX format; the oldest that has all of OPSET, so that older readers take the file.
IR_VERSION = 8
GRAPH_FIELD = 7  # of ModelProto
# Of the graph's arrays: protobuf's limit, less nodes and names of categories.
MOST_BYTES = (1 << 31) - (1 << 26)
PREFIX = "stream_scorer."
ABOUT = (
    "Probabilities (B, N, C) of B customers. columns and values: the entries of their vectors, a "
    "row for each, filled up with column 0 and value 0."
)


def to_bytes(artefact: Artefact) -> bytes:
    """The file's contents; the same artefact gives the same bytes.

    Raises ArtefactError where the network is larger than an ONNX file can be.
    """
    manifest = artefact.manifest
    try:
        network = network_graph(artefact.layout, manifest.network, artefact.parameters, MOST_BYTES)
    except GraphTooLargeError:
        remedy = "has more than 2 GB of weights, which no ONNX file holds; use model.engine native"
        raise ArtefactError("model", artefact.path, remedy) from None
    graph: bytes = network.SerializeToString(deterministic=True)
    del network  # it holds all weights, and so do both of what follows
    about = {
        "model_version": manifest.model_version,
        "fingerprint": manifest.fingerprint,
        "categories": json.dumps(manifest.categories),
        "classes": str(manifest.classes),
        "columns": str(artefact.layout.columns),
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
    }
    header = ModelProto(
        ir_version=IR_VERSION,
        producer_name="stream-scorer",
        producer_version=version("stream-scorer"),
        doc_string=ABOUT,
        opset_import=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(header, {f"{PREFIX}{name}": value for name, value in about.items()})
    # Fields of a message may follow each other in any order. So the graph is written once, and the
    # bytes that are in the file are those of the checksum.
    tag = bytes([GRAPH_FIELD << 3 | 2])
    content: bytes = header.SerializeToString(deterministic=True)
    return content + tag + _varint(len(graph)) + graph


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit set in all but the last."""
    parts = bytearray()
    while number >= 1 << 7:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
