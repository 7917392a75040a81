import subprocess
import sys
import zipfile
from pathlib import Path

from firstseen import schema
from tests import vectors


def test_a_wheel_takes_tables_and_statements_along(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=vectors.ROOT / "python", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path)
        names = set(z.namelist())
    assert {"firstseen/__main__.py", "firstseen/py.typed", "firstseen/_schema/ingest/mysql.json"} <= names
    for dialect in ("mysql", "sqlite"):
        packed = sorted((tmp_path / "firstseen/_schema/migrations" / dialect).glob("*.sql"))
        assert len(packed) == len(schema.migrations(dialect))
    run = [sys.executable, "-m", "firstseen", "server", "--help"]
    out = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True, capture_output=True)
    assert b"--listen" in out.stdout
