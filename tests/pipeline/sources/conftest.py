"""Shards read without a child process, for tests that look inside of their readers."""

from __future__ import annotations

import pytest

from restyle.pipeline.sources import catalog, reader
from restyle.pipeline.sources.formats.shard_service import ShardKey, ShardService


class DirectShards(ShardService):
    def row(self, shard: ShardKey, group: int, row: int, column: str, *_: object) -> bytes | None:
        return super().row(shard, group, row, column)

    def end(self) -> None:
        for shard in list(self._shards):
            self.close(shard)


@pytest.fixture
def direct_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "ShardProcess", DirectShards)
    monkeypatch.setattr(reader, "ShardProcess", DirectShards)
