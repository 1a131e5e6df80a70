"""The peers' locks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEERS = sorted(path.name for path in (ROOT / "benchmarks" / "peers").iterdir())


def _pinned(lock: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}==(\S+)", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_reads_the_pickle_with_the_scikit_learn_that_wrote_it(peer: str) -> None:
    ours = _pinned(ROOT / "tests" / "requirements.txt", "scikit-learn")
    assert ours
    assert _pinned(ROOT / "benchmarks" / "peers" / peer / "requirements.txt", "scikit-learn") == ours


@pytest.mark.parametrize("peer", PEERS)
def test_a_lock_has_hashes_and_no_address(peer: str) -> None:
    text = (ROOT / "benchmarks" / "peers" / peer / "requirements.txt").read_text()
    assert "://" not in text
    for requirement in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in requirement, requirement
