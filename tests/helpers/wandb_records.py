"""The file that Weights & Biases writes offline, read back."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FULL, _LAST = 1, 4


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB after the 7 bytes of W&B's own header."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < 7:  # padding
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def read_offline_runs(folder: Path) -> dict[str, Any]:
    """Ids of the runs, settings, and the values of each metric, of all offline runs below a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    ids, config, history = set(), {}, {}
    for file in sorted(folder.rglob("*.wandb")):
        for content in _records(file.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            updates: Any = []
            if kind == "run":
                ids.add(record.run.run_id)
                updates = record.run.config.update
            elif kind == "config":
                updates = record.config.update
            elif kind == "history":
                for item in record.history.item:
                    name = item.key or ".".join(item.nested_key)
                    history.setdefault(name, []).append(json.loads(item.value_json))
            for item in updates:
                config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return {"ids": ids, "config": config, "history": history}
