"""The examples of the client's README run as they stand, one after the other."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def test_the_examples(server, capsys):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) == 4
    names: dict[str, object] = {}
    printed = []
    for example in examples:
        assert "localhost:50051" in example
        exec(example.replace("localhost:50051", server.target), names)
        printed.append(capsys.readouterr().out.splitlines())
    by_name, by_position, batch, errors = printed
    request_id, label, probability, risk_level, version = by_name[0].split()
    assert (request_id, version) == ("payment-4711", "1.0.0")
    assert label in ("legitimate", "fraud")
    assert risk_level
    assert by_position == [probability]
    assert batch == [f"1000 {label}"]
    assert errors[0] == "INVALID_ARGUMENT"
    assert len(errors) == 1 + 30
    assert any(line.startswith("Amount WRONG_TYPE Amount: ") for line in errors)
