"""Data of the datasets library: a folder's loading script never runs."""

from __future__ import annotations

import pytest
from tripwire import tripwire

import clipbias
from clipbias.errors import UserError

SCRIPT = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.mark.parametrize("name", ["evil", "./evil", "evil/evil.py"])
def test_a_loading_script_is_refused(tmp_path, monkeypatch, name):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(SCRIPT)
    (tmp_path / "evil" / "a.json").write_text('{"image": 1, "caption": "a"}\n')
    with tripwire() as tripped, pytest.raises(UserError, match="cannot be opened") as caught:
        clipbias.load_dataset(f"hf:{name}")
    assert [t for t in tripped if str(tmp_path) in t] == [] and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("ran"))
