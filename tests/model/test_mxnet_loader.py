"""Where MXNet can't be imported, one line says what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("broken", "said"),
    [("raise OSError('libquadmath.so.0: no such file')", "libquadmath0"),
     ("raise ImportError('no wheel')", "Python 3.10 to 3.12")],
)  # fmt: skip
def test_a_missing_mxnet_is_one_clear_error(tmp_path, broken, said):
    (tmp_path / "mxnet.py").write_text(broken)
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from stream_scorer.errors import ConfigError
try:
    import stream_scorer.model.engines.mxnet
except ConfigError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said in ran.stdout
    assert "native" in ran.stdout


@pytest.mark.mxnet
def test_mxnet_is_imported_without_scipys_statistics_which_can_be_imported_after_it():
    code = """
import sys
import stream_scorer.model.mxnet_loader
print("scipy.stats" in sys.modules)
import scipy.stats
print(scipy.stats.norm.cdf(0))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "0.5"]


@pytest.mark.mxnet
def test_mxnet_is_imported_without_compiling_a_function_for_each_of_its_operators():
    """They are 3,000; each is made when it is first called."""
    code = """
import sys
texts = []
def seen(event, arguments):
    if event == "compile" and arguments[1] == "<string>":
        texts.append(arguments[0])
sys.addaudithook(seen)
from stream_scorer.model.mxnet_loader import mx
print(len(texts) < 300)
before = len(texts)
print(mx.nd.relu(mx.nd.array([-1.0, 2.0])).asnumpy().tolist(), mx.sym.relu(mx.sym.var("a")).name)
print(len(texts) > before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["True", "[0.0, 2.0] relu0", "True"]


@pytest.mark.mxnet
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python has no distutils of its own")
def test_mxnet_is_imported_without_setuptools_which_can_be_imported_after_it():
    code = """
import sys
import stream_scorer.model.mxnet_loader
print([name in sys.modules for name in ("setuptools", "distutils")])
import setuptools, distutils
print(distutils.__name__, "setuptools" in distutils.__file__)
"""
    command = [sys.executable, "-W", "error:Distutils", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[False, False]", "distutils True"]


@pytest.mark.mxnet
@pytest.mark.parametrize(("said", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmps_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(said, kept):
    """Spinning, they take the cores from the loops that run between MXNet's."""
    code = """
import os
import stream_scorer.model.mxnet_loader
print(os.environ["OMP_WAIT_POLICY"])
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if said:
        environment["OMP_WAIT_POLICY"] = said
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.split() == [kept]
