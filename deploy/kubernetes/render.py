"""Writes the chart's objects as manifests for those who have no Helm, into the folder given, by
default that of this file: `python deploy/kubernetes/render.py`. It calls Helm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE.parent / "helm" / "stream-scorer"
NAMESPACE = "stream-scorer"
KUBERNETES = "1.29.0"  # the oldest that Chart.yaml allows
# Written by hand, beside the rendered ones.
OWN = ("namespace.yaml",)
HEAD = "# Rendered from deploy/helm/stream-scorer by `make manifests`: change it there.\n"
# Helm's own labels would say that Helm manages these objects.
_HELMS = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
_SOURCE = re.compile(r"^# Source: .*\n", re.MULTILINE)


def render(folder: Path) -> None:
    """Write one file for each template, and a kustomization that names them all."""
    helm = shutil.which("helm") or str(Path.home() / "go" / "bin" / "helm")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                helm, "template", "stream-scorer", CHART,
                "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--output-dir", scratch,
                "--values", HERE / "values.yaml",
                "--set-file", f"config={HERE / 'stream_scorer.toml'}",
            ],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        files = sorted((Path(scratch) / "stream-scorer" / "templates").glob("*.yaml"))
        for file in files:
            text = _SOURCE.sub("", _HELMS.sub("", file.read_text(encoding="utf-8")))
            (folder / file.name).write_text(HEAD + text, encoding="utf-8")
    resources = "".join(f"  - {name}\n" for name in (*OWN, *(file.name for file in files)))
    (folder / "kustomization.yaml").write_text(
        HEAD + "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"namespace: {NAMESPACE}\nresources:\n{resources}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    render(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
